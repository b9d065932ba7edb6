"""Exports of variants: what deltas changed is in the files, once and exactly, and nothing else is otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from explorer.deltas.delta import Delta
from explorer.deltas.stand_in import StandIn
from explorer.deltas.variant import Variant
from explorer.deltas.weight_change import LowRankUpdate, SparsityPattern
from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.evaluation.recovered import find_recovered
from explorer.export import export, plan_export
from explorer.export.merge import Merge
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.tiny_models import FAMILIES, WINDOW, Tiny, load_folder, make_model, save
from tests.support.wide_models import WIDE

WEIGHTS = (("1", "refit"), ("1-2", "replaceme"), ("2", "scale"), ("a1,m2", "refit"), ("1-2", "refit;where=all"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


def _reload(folder: Path, dtype: torch.dtype | str = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=True).eval()


def _check(loaded: LoadedModel, corpus: Corpus, store: Store, variant: Variant, format: str, out: Path) -> None:
    """See that what is written is, by plain transformers, the model whose weights were overwritten."""
    made = export(loaded, variant, out, corpus, store, format=format)
    expected = brute_force.logits(variants.overwritten(loaded.checkpoint.folder, variant), corpus.held_out.ids)
    close = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(brute_force.logits(_reload(out), corpus.held_out.ids), expected, rtol=0, atol=close)
    masked = brute_force.logits(brute_force.zeroed(loaded.checkpoint.folder, variant.mask), corpus.held_out.ids)
    changes = any(delta.tensors for delta in variant.deltas)
    assert (float((masked - expected).abs().max()) > 100 * close) == changes  # else the check above says nothing
    assert made.verification.max_abs_logit_difference <= close


@pytest.mark.parametrize("few", ["llama", "gpt2", "bloom"])
@pytest.mark.parametrize("format", ["transformers-zeroed", "pruned-remote-code"])
def test_merged_weights_are_the_overwritten_model(
    tiny: Tiny, store: Store, tmp_path: Path, few: str, format: str
) -> None:
    loaded = tiny.load(few)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    for number, (mask, modifier) in enumerate(WEIGHTS):
        _check(loaded, corpus, store, variants.make(loaded, corpus, mask, modifier), format, tmp_path / str(number))


@pytest.mark.parametrize("format", ["transformers-zeroed", "pruned-remote-code"])
def test_every_parameter_of_each_family_is_merged(
    loaded: LoadedModel, corpus: Corpus, store: Store, tmp_path: Path, format: str
) -> None:
    for mask in ("0", "1,a2,m3"):
        _check(loaded, corpus, store, variants.perturb(loaded, Mask.parse(mask)), format, tmp_path / mask)


@pytest.mark.parametrize("family_of_deci", list(WIDE))
def test_deci_with_merged_weights(family_of_deci: str, store: Store, tmp_path: Path) -> None:
    loaded = load_folder(save(make_model(WIDE[family_of_deci]()), tmp_path / "source"))
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    for mask in ("1", "2,a0,m3"):
        _check(loaded, corpus, store, variants.perturb(loaded, Mask.parse(mask)), "deci", tmp_path / mask)


def test_the_later_delta_wins(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    first, second = (variants.perturb(llama, Mask.parse("1-2"), seed).deltas[0] for seed in (1, 2))
    over = Delta(replace(second.origin, below=(first.digest,)), {0: second.weights[0]}, {})
    _check(llama, llama_corpus, store, Variant(first.mask, (first, over)), "transformers", tmp_path / "out")


def test_changes_of_every_kind_stack(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    replaced = variants.perturb(llama, Mask.parse("1")).deltas[0]
    noise, name = torch.Generator().manual_seed(0), "mlp.down_proj.weight"
    own = llama.wrappers.weight(0, name)
    product = LowRankUpdate(
        torch.randn(len(own), 2, generator=noise) / 10, torch.randn(2, own.shape[1], generator=noise) / 10
    )
    pattern = SparsityPattern.of(torch.randn(own.shape, generator=noise).clamp_min(0))
    chain: tuple[Delta, ...] = (replaced,)
    for change in (product, pattern):
        origin = replace(replaced.origin, below=tuple(delta.digest for delta in chain))
        chain = (*chain, Delta(origin, {0: {name: change}, 2: {name: change}}, {}))
    _check(llama, llama_corpus, store, Variant(replaced.mask, chain), "transformers", tmp_path / "out")
    assert torch.equal(llama.wrappers.weight(0, name), own)


def _read(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Dtype and bytes of every tensor of a folder."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                found[name] = file.get_slice(name).get_dtype(), tensor.view(-1).view(torch.uint8).numpy().tobytes()
    return found


@pytest.mark.parametrize(
    ("stored", "measured", "written", "rest"),
    [
        ("float32", "float32", "F32", "F32"),
        ("bfloat16", "bfloat16", "BF16", "BF16"),
        ("float32", "bfloat16", "BF16", "BF16"),
        ("bfloat16", "float32", "F32", "BF16"),
        ("float16", "bfloat16", "BF16", "BF16"),
    ],
)
def test_only_changed_tensors_are_otherwise(
    store: Store, tmp_path: Path, stored: str, measured: str, written: str, rest: str
) -> None:
    model = make_model(FAMILIES["llama"]()).to(getattr(torch, stored))
    loaded = load_folder(save(model, tmp_path / "source", max_shard_size="20KB"), measured)
    assert len(loaded.checkpoint.weights) > 2
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    variant = variants.make(loaded, corpus, "2", "refit;where=all")
    made = export(loaded, variant, tmp_path / "out", corpus, store)
    before, after = _read(tmp_path / "source"), _read(tmp_path / "out")
    moved = {3: 2}
    names = {
        f"model.layers.{moved.get(layer, layer)}.{name}": tensor
        for layer, weights in variant.deltas[0].weights.items()
        for name, tensor in weights.items()
    }
    assert names
    for name, (dtype, data) in after.items():
        if name in names:
            assert dtype == written
        else:
            old, bits = before[name.replace("layers.2.", "layers.3.")]
            assert dtype == rest
            assert data == (bits if old == rest else _round(bits, stored, measured))
    assert made.bytes == sum(len(data) for _, data in after.values())
    state = _reload(tmp_path / "out", getattr(torch, measured)).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in names.items())
    assert made.verification.max_abs_logit_difference == 0


def _round(bits: bytes, stored: str, measured: str) -> bytes:
    numbers = torch.frombuffer(bytearray(bits), dtype=getattr(torch, stored)).to(getattr(torch, measured))
    return numbers.view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("format", ["transformers", "deci", "pruned-remote-code"])
@pytest.mark.parametrize(
    ("stored", "measured", "asked", "written", "exact"),
    [
        ("float32", "bfloat16", "auto", "BF16", True),
        ("float32", "bfloat16", "float32", "F32", True),
        ("float32", "float32", "float16", "F16", False),
        ("bfloat16", "float32", "auto", "BF16", True),
        ("bfloat16", "bfloat16", "float32", "F32", True),
    ],
)
def test_weights_are_written_in_the_dtype_that_was_asked_for(
    store: Store, tmp_path: Path, stored: str, measured: str, asked: str, written: str, exact: bool, format: str
) -> None:
    model = make_model(WIDE["llama"]()).to(getattr(torch, stored))
    loaded = load_folder(save(model, tmp_path / "source"), measured)
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    made = export(loaded, Mask.parse("1"), tmp_path / "out", corpus, store, format=format, dtype=asked)
    found = _read(tmp_path / "out")
    assert {dtype for dtype, _ in found.values()} == {written}
    assert made.bytes == sum(len(data) for _, data in found.values())
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}[written]
    assert _reload(tmp_path / "out", "auto").dtype == dtype
    assert (made.verification.max_abs_logit_difference == 0) == exact
    assert json.loads((tmp_path / "out" / "recipe.json").read_text())["export_dtype"] == asked


def test_a_dtype_that_cannot_be_is_refused(llama: LoadedModel) -> None:
    for format, dtype in (("transformers", "float64"), ("gguf", "float16"), ("recipe", "float32")):
        with pytest.raises(ExportError, match="dtype"):
            plan_export(llama, Mask.parse("1"), format, dtype)


def _with_weights(loaded: LoadedModel, delta: Delta, layer: int, name: str, tensor: torch.Tensor) -> Variant:
    return Variant(delta.mask, (Delta(replace(delta.origin, base=loaded.digest), {layer: {name: tensor}}, {}),))


@pytest.fixture
def delta(llama: LoadedModel, llama_corpus: Corpus) -> Delta:
    return variants.make(llama, llama_corpus, "1", "refit").deltas[0]


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda d: replace(d, origin=replace(d.origin, base="0" * 32)), "The delta is of another model"),
        (lambda d: Delta(d.origin, {0: {"mlp.nosuch.weight": torch.zeros(2, 2)}}, {}), "no mlp.nosuch.weight in layer"),
        (lambda d: Delta(d.origin, {9: {"mlp.down_proj.weight": torch.zeros(32, 48)}}, {}), "down_proj.weight in lay"),
        (lambda d: Delta(d.origin, {0: {"mlp.down_proj.weight": torch.zeros(48, 32)}}, {}), "48 x 32, float32, the"),
        (
            lambda d: Delta(d.origin, {0: {"mlp.down_proj.weight": torch.zeros(32, 48).half()}}, {}),
            "48, float16, the",
        ),
        (lambda d: Delta(d.origin, {}, {d.mask: StandIn(bias=torch.zeros(31))}), "a bias of 31, float32"),
        (lambda d: Delta(d.origin, {}, {d.mask: StandIn(weight=torch.zeros(32, 32).double())}), "32 x 32, float64"),
    ],
)
def test_deltas_that_do_not_fit_are_refused(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path, delta: Delta,
    spoil: Callable[[Delta], Delta], found: str,
) -> None:  # fmt: skip
    variant = Variant(delta.mask, (spoil(delta),))
    for format in ("auto", "pruned-remote-code", "recipe", "gguf-f16"):
        with pytest.raises(ExportError, match=found) as refused:
            export(llama, variant, tmp_path / "out", llama_corpus, store, format=format)
        assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_weights_that_files_have_in_another_form_are_refused(tiny: Tiny) -> None:
    loaded = tiny.load("mixtral")  # whose experts are apart in the files, and one tensor in memory
    own = "model.layers.0.mlp.experts.down_proj"
    merge = Merge({own: loaded.model.get_parameter(own).detach() * 2}, loaded.model)
    part = "model.layers.0.block_sparse_moe.experts.0.w2.weight"
    width, hidden = loaded.model.get_parameter(own).shape[1:]
    assert merge.take(part, (width, hidden), True) is not None
    with pytest.raises(ExportError, match=r"A changed weight is in the files in another form: model\.layers\.0\.mlp"):
        merge.take(part, (width, hidden), True)  # a second time
    with pytest.raises(ExportError, match=r"in another form: .*experts\.1\.w2"):
        merge.take(part.replace("experts.0", "experts.1"), (hidden, width), True)
    with pytest.raises(ExportError, match="in no tensor of the files"):
        merge.check()


def test_a_change_that_no_file_takes_is_not_lost_in_silence(llama: LoadedModel) -> None:
    merge = Merge({"model.layers.0.mlp.more": torch.zeros(2)}, llama.model)
    assert merge.take("model.layers.0.mlp.up_proj.weight", (48, 32), True) is None
    with pytest.raises(ExportError, match=r"in no tensor of the files: model\.layers\.0\.mlp\.more"):
        merge.check()


def test_a_change_to_what_is_off_is_told(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path, delta: Delta
) -> None:
    variant = _with_weights(llama, delta, 1, "mlp.up_proj.weight", torch.ones(48, 32))
    export(llama, variant, tmp_path / "out", llama_corpus, store)
    card = (tmp_path / "out" / "README.md").read_text()
    assert (
        "Changed weights that belong to what is off and go with it: 1, such as model.layers.1.mlp.up_proj.weight."
        in card
    )


def test_an_export_without_its_changes_is_removed(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Merge.take

    def forget(self: Merge, name: str, shape: tuple[int, ...], written: bool) -> Any:
        inner(self, name, shape, written)

    monkeypatch.setattr(Merge, "take", forget)
    variant = variants.make(llama, llama_corpus, "1", "refit")
    with pytest.raises(ExportError, match="not what was measured"):
        export(llama, variant, tmp_path / "out", llama_corpus, store)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", ["transformers", "transformers-zeroed", "gguf", "gguf-f16", "mergekit"])
def test_stand_ins_are_refused_where_there_is_no_place_for_them(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path, format: str
) -> None:
    variant = variants.make(llama, llama_corpus, "1-2", "linear;rank=3")
    found = f"{format} has no place for what stands in: linear;rank=3 at 1-2. Use --format pruned-remote-code."
    with pytest.raises(ExportError) as refused:
        export(llama, variant, tmp_path / "out", llama_corpus, store, format=format)
    assert str(refused.value) == found
    assert not list(tmp_path.iterdir())
    assert plan_export(llama, variant).format.name == "pruned-remote-code"


def test_mergekit_carries_no_changed_weights(llama: LoadedModel, llama_corpus: Corpus) -> None:
    with pytest.raises(ExportError, match=r"mergekit cannot carry changed weights: model\.layers\.0"):
        plan_export(llama, variants.make(llama, llama_corpus, "1", "refit"), "mergekit")


def test_the_card_and_the_recipe_tell_what_was_changed(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    variant = variants.make(llama, llama_corpus, "1-2", "refit", "mean")
    made = export(llama, variant, tmp_path / "out", llama_corpus, store)
    card, recipe = ((tmp_path / "out" / name).read_text() for name in ("README.md", "recipe.json"))
    written, (changed, pruned) = json.loads(recipe), score(llama, llama_corpus, [variant, variant.mask], store)
    won = find_recovered(pruned, changed)
    assert written["modifiers"] == ["refit", "mean"]
    assert written["deltas"] == [delta.digest for delta in variant.deltas]
    assert written["measured"]["perplexity"]["after"] == changed.perplexity
    assert written["measured"]["perplexity_pruned"] == pruned.perplexity
    assert written["measured"]["recovered"] == won.share
    assert made.evidence.after.parameters == sum(p.numel() for p in _reload(tmp_path / "out").parameters())
    for words in (
        "`refit`, fitted on 120 tokens of `python-docs`",
        "`mean`, fitted on 120",
        "parameters that stand in: 32, for 1-2",
        f"with the mask alone is {pruned.perplexity:.3f}, with these {changed.perplexity:.3f}: {won.share:.0%} of",
        "--recipe",
        "compared with the variant in memory",
    ):
        assert words in card
    alone = export(llama, Mask.parse("1-2"), tmp_path / "alone", llama_corpus, store, format="pruned-remote-code")
    one, other = made.evidence.after, alone.evidence.after
    gained = (one.parameters - other.parameters, one.bytes - other.bytes, one.flops_per_token - other.flops_per_token)
    assert gained == (32, 128, 64)
