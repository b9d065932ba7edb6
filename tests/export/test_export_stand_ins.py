"""What stands in for what was taken out: the code in the folder computes it to the last bit, wherever it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig

from explorer.checkpoints.spec import ModelSpec
from explorer.deltas.variant import Variant
from explorer.errors import ExportError, ModifyError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.export import export, plan_export
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel, load
from explorer.model.parameter_counts import count_parameters
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.tiny_models import WINDOW, Tiny, load_folder, make_model, save
from tests.support.wide_models import WIDE

FORMAT = "pruned-remote-code"

#: At the start, at the end, in the middle, and single sites, of whole layers' neighbours too.
CASES = (
    ("0", "linear"),
    ("0,2-3", "mean"),
    ("1-2", "channels"),
    ("1,3", "scale"),
    ("a0,m1,a3", "linear"),
    ("0,a1,m3", "linear;rank=3"),
    ("m0-3", "mean"),
)


_QUANTIZED: dict[str, Any] = {
    "vocab_size": 300, "max_position_embeddings": 128, "bos_token_id": 256, "eos_token_id": 257, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "initializer_range": 0.2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


def _reload(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()


def _load(folder: Path) -> LoadedModel:
    return load(ModelSpec(str(folder), "float32", "cpu", trust_remote_code=True), Store(None), folder / "cache")


@torch.no_grad()
def _generate(model: Any, ids: torch.Tensor, cached: bool) -> list[int]:
    options = {"use_cache": cached, "do_sample": False, "min_new_tokens": WINDOW, "max_new_tokens": WINDOW}
    return model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **options)[0].tolist()


def _check(loaded: LoadedModel, corpus: Corpus, store: Store, variant: Variant, out: Path) -> None:
    """See that plain transformers, with the code in the folder, computes what hooks on the plain model do."""
    made = export(loaded, variant, out, corpus, store, format=FORMAT)
    assert made.verification.max_abs_logit_difference == 0
    reloaded = _reload(out)
    found = brute_force.logits(reloaded, corpus.held_out.ids)
    expected = brute_force.logits(variants.overwritten(loaded.checkpoint.folder, variant), corpus.held_out.ids)
    close = 1e-5 * float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=0, atol=close)
    masked = brute_force.logits(brute_force.zeroed(loaded.checkpoint.folder, variant.mask), corpus.held_out.ids)
    assert float((masked - expected).abs().max()) > 100 * close
    prompt = torch.from_numpy(corpus.held_out.ids[:1, :5])
    assert _generate(reloaded, prompt, True) == _generate(reloaded, prompt, False)
    assert made.evidence.after.parameters == sum(p.numel() for p in reloaded.parameters())


@pytest.mark.parametrize("few", ["llama", "gemma2", "bloom", "granite", "opt", "falcon_parallel"])
@pytest.mark.parametrize(("mask", "modifier"), CASES)
def test_stand_ins_are_in_the_folder(
    tiny: Tiny, store: Store, tmp_path: Path, few: str, mask: str, modifier: str
) -> None:
    loaded = tiny.load(few)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    _check(loaded, corpus, store, variants.make(loaded, corpus, mask, modifier), tmp_path / "out")


def test_stand_ins_of_each_family(loaded: LoadedModel, corpus: Corpus, store: Store, tmp_path: Path) -> None:
    for number, (mask, modifier) in enumerate(CASES):
        variant = variants.make(loaded, corpus, mask, modifier)
        if any(delta.stand_ins for delta in variant.deltas):
            _check(loaded, corpus, store, variant, tmp_path / str(number))


def test_a_chain_of_modifiers(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    variant = variants.make(llama, llama_corpus, "1,a2", "refit", "mean", "linear")
    out = tmp_path / "out"
    _check(llama, llama_corpus, store, Variant(variant.mask, variant.deltas), out)
    pruned = json.loads((out / "config.json").read_text())["pruned"]
    assert pruned["off"] == []
    assert pruned["stand_ins"] == {"a1": {"weight": [32, 32], "bias": [32]}}  # of two, the later
    assert pruned["before"] == {"1": [{"weight": [32, 32], "bias": [32]}]}


@pytest.mark.parametrize("family_of_llamas", ["llama", "qwen2"])
def test_sharded_and_saved_again(family_of_llamas: str, store: Store, tmp_path: Path) -> None:
    source = save(make_model(WIDE[family_of_llamas]()), tmp_path / "source", max_shard_size="60KB")
    loaded = load_folder(source)
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    variant = variants.make(loaded, corpus, "0,a1,m3", "linear;rank=3")
    _check(loaded, corpus, store, variant, tmp_path / "out")
    reloaded = _reload(tmp_path / "out")
    reloaded.save_pretrained(tmp_path / "again")
    expected = brute_force.logits(reloaded, corpus.held_out.ids)
    assert torch.equal(brute_force.logits(_reload(tmp_path / "again"), corpus.held_out.ids), expected)


def test_what_stands_in_learns(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    export(llama, variants.make(llama, llama_corpus, "0,a2,3", "linear"), tmp_path / "out", llama_corpus, store)
    model = _reload(tmp_path / "out").train()
    ids = torch.from_numpy(llama_corpus.held_out.ids)
    model(ids, labels=ids).loss.backward()
    standing = {
        name: p for name, p in model.named_parameters() if "stand_in" in name or "before" in name or "aft" in name
    }
    assert len(standing) == 6
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in standing.values())


@pytest.mark.parametrize("few", ["llama", "gemma2", "bloom", "opt"])
@pytest.mark.parametrize("more", ["none", "1", "a1", "m2", "0,a1"])
def test_a_folder_with_stand_ins_is_a_model_like_any_other(
    tiny: Tiny, store: Store, tmp_path: Path, few: str, more: str
) -> None:
    """Loaded, pruned and exported again, it is what the masked copy of it is, and stand-ins of the stream stay."""
    loaded = tiny.load(few)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    variant = variants.make(loaded, corpus, "0,a2", "linear")  # before what is layer 0 then, and at a1
    export(loaded, variant, tmp_path / "first", corpus, store)
    again = _load(tmp_path / "first")
    assert again.absent == NONE  # what has a stand-in has weights
    (first,), (second,) = (score(each, corpus, [v], store) for each, v in ((loaded, variant), (again, NONE)))
    np.testing.assert_array_equal(first.nll, second.nll)
    costs = [
        count_parameters(loaded.model, loaded.architecture).costs(variant.mask, WINDOW),
        count_parameters(again.model, again.architecture).costs(NONE, WINDOW),
    ]
    assert costs[0].kv_bytes_per_token == costs[1].kv_bytes_per_token
    mask = Mask.parse(more)
    made = export(again, mask, tmp_path / "second", corpus, store)
    assert made.format.name == FORMAT
    assert made.verification.max_abs_logit_difference == 0
    config = json.loads((tmp_path / "second" / "config.json").read_text())["pruned"]
    gone = {"none": [], "1": [], "a1": ["a1"], "m2": ["m2"], "0,a1": ["a0"]}[more]
    assert config["off"] == gone
    assert ("stand_ins" in config) == (more in ("none", "m2"))
    assert list(config["before"]) == ["0"]  # of a layer that went, before the next one
    third = _load(tmp_path / "second")
    (once,), (twice,) = (score(each, corpus, [v], store) for each, v in ((again, mask), (third, NONE)))
    np.testing.assert_allclose(once.nll, twice.nll, rtol=1e-6)


def test_a_site_with_a_stand_in_can_be_turned_off(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    variant = variants.make(llama, llama_corpus, "a1,m2", "linear")
    export(llama, variant, tmp_path / "out", llama_corpus, store)
    again = _load(tmp_path / "out")
    (off,) = score(again, llama_corpus, [variant.mask], store)
    (plain,) = score(llama, llama_corpus, [variant.mask], store)
    np.testing.assert_array_equal(off.nll, plain.nll)


def test_stand_ins_over_stand_ins(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    """What a second pruning puts in comes after, or in the place of, what the first one did."""
    export(llama, variants.make(llama, llama_corpus, "0,a2,3", "linear"), tmp_path / "first", llama_corpus, store)
    again = _load(tmp_path / "first")  # two layers, one map before them, one at a1, one behind them
    for number, (mask, where, after) in enumerate((("0", {"0": 2}, 1), ("1", {"0": 1}, 2), ("a1", {"0": 1}, 1))):
        variant = variants.make(again, llama_corpus, mask, "linear;rank=3")
        made = export(again, variant, tmp_path / str(number), llama_corpus, store)
        assert made.verification.max_abs_logit_difference == 0
        config = json.loads((tmp_path / str(number) / "config.json").read_text())["pruned"]
        assert {layer: len(each) for layer, each in config["before"].items()} == where
        assert len(config["after"]) == after
        (here,), (there,) = (
            score(each, llama_corpus, [v], store) for each, v in ((again, variant), (_load(made.out), NONE))
        )
        np.testing.assert_array_equal(here.nll, there.nll)


def test_a_layer_without_weights_stays_for_what_stands_in_it(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    export(llama, Mask.parse("a1"), tmp_path / "first", llama_corpus, store, format=FORMAT)
    again = _load(tmp_path / "first")
    made = export(again, variants.make(again, llama_corpus, "m1", "linear"), tmp_path / "out", llama_corpus, store)
    assert (made.layers, made.verification.max_abs_logit_difference) == (4, 0)
    assert made.evidence.after.parameters == sum(p.numel() for p in _reload(made.out).parameters())


def test_a_folder_with_stand_ins_goes_into_no_other_format(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    export(llama, variants.make(llama, llama_corpus, "1", "linear"), tmp_path / "out", llama_corpus, store)
    again = _load(tmp_path / "out")
    for format in ("transformers", "transformers-zeroed", "deci", "gguf", "mergekit"):
        with pytest.raises(
            ExportError, match=r"something stands in for what it lacks. Use --format pruned-remote-code"
        ):
            plan_export(again, Mask.parse("0"), format)
    assert plan_export(again, Mask.parse("0"), "recipe").bytes == 0


def test_old_folders_load_as_before(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    export(llama, Mask.parse("a1"), tmp_path / "out", llama_corpus, store, format=FORMAT)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["pruned"]
    assert not {"stand_ins", "before", "after", "without_norm"} & config.keys()


@pytest.mark.parametrize("kind", ["nf4", "int8"])
@pytest.mark.parametrize("stored", [True, False])
def test_stand_ins_of_quantized_models(store: Store, tmp_path: Path, kind: str, stored: bool) -> None:
    """Maps stay in the dtype of the arithmetic, whether the files are quantized or the model was when it was loaded."""
    folder = save(make_model(LlamaConfig(**_QUANTIZED)), tmp_path / "plain")
    if stored:
        options = {"load_in_8bit": True} if kind == "int8" else {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
        packed = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, quantization_config=BitsAndBytesConfig(**options), device_map="cpu"
        )
        folder = save(packed, tmp_path / "packed")
    spec = ModelSpec(str(folder), "float32", "cpu", quantize="none" if stored else kind)
    loaded = load(spec, store, tmp_path / "cache")
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    made = export(loaded, variants.make(loaded, corpus, "1,a2", "linear"), tmp_path / "out", corpus, store)
    assert made.verification.max_abs_logit_difference == 0
    with pytest.raises(ModifyError, match="those of this model are quantized"):
        variants.make(loaded, corpus, "1", "refit")


def test_a_streamed_folder_runs_what_stands_beside_its_layers(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    variant = variants.make(llama, llama_corpus, "0,a2,3", "linear")
    made = export(llama, variant, tmp_path / "out", llama_corpus, store)
    spec = ModelSpec(str(made.out), "float32", "cpu", trust_remote_code=True, stream=True)
    streamed = load(spec, store, tmp_path / "cache")
    (once,), (again,) = (score(each, llama_corpus, [v], store) for each, v in ((llama, variant), (streamed, NONE)))
    np.testing.assert_array_equal(once.nll, again.nll)
