"""modify: what it looks at, what it leaves behind, what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.variant import Variant
from explorer.errors import Cancelled, MaskError, ModifyError
from explorer.evaluation.generation import generate
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.perplexity import LiveScoring, score
from explorer.evaluation.recovered import find_recovered
from explorer.masks.mask import NONE, Mask
from explorer.model.layerwise import LayerwisePass
from explorer.model.loading import LoadedModel
from explorer.modifiers.catalogue import MODIFIERS, find_modifier
from explorer.modifiers.modify import modify, modify_each
from explorer.modifiers.reference import Reference
from explorer.storage.store import Store
from explorer.text.windows import Corpus, Windows
from tests.support.tiny_models import WINDOW, Tiny, load_folder

MASK = Mask.parse("2")
#: What trains takes a few steps.
ALL = [
    ModifierSpec.parse(f"{name};steps=3" if any(each.name == "steps" for each in modifier.options) else name)
    for name, modifier in MODIFIERS.items()
    if modifier.needs_mask
]


def weights(loaded: LoadedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.clone() for name, parameter in loaded.model.named_parameters()}


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=20 * WINDOW)


def test_no_held_out_window_is_looked_at(llama: LoadedModel, corpus: Corpus) -> None:
    other = llama.tokenize("python-docs", 10 * WINDOW, WINDOW).held_out[slice(5, 10)]
    moved = dataclasses.replace(corpus, held_out=other)
    assert moved.held_out.digests != corpus.held_out.digests
    for spec in ALL:
        first, second = (modify(llama, each, MASK, [spec], Store(None)) for each in (corpus, moved))
        assert first.key == second.key


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_the_text_that_is_fitted_to_decides(llama: LoadedModel, corpus: Corpus, spec: ModifierSpec) -> None:
    fewer = dataclasses.replace(corpus, calibration=corpus.calibration[slice(0, 7)])
    first, second = (modify(llama, each, MASK, [spec], Store(None)).deltas[0] for each in (corpus, fewer))
    assert any(not torch.equal(tensor, second.tensors.get(name, tensor + 1)) for name, tensor in first.tensors.items())


@pytest.mark.parametrize("spec", ALL, ids=str)
def test_the_model_is_as_it_was(llama: LoadedModel, corpus: Corpus, store: Store, spec: ModifierSpec) -> None:
    before, parameters = weights(llama), dict(llama.model.named_parameters())
    variant = modify(llama, corpus, MASK, [spec], store)
    score(llama, corpus, [variant], store)
    generate(llama, variant, "The", 3)
    assert all(torch.equal(before[name], parameter) for name, parameter in llama.model.named_parameters())
    assert all(parameters[name] is parameter for name, parameter in llama.model.named_parameters())


def test_the_model_is_as_it_was_after_a_failure(
    llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant, before = modify(llama, corpus, MASK, [ModifierSpec.parse("refit")], Store(None)), weights(llama)

    class Failure(Exception):
        pass

    def fail(*_: object, **__: object) -> None:
        raise Failure

    changed = min(layer for layer in variant.deltas[0].weights)
    monkeypatch.setattr(llama.wrappers.layers[changed].mlp.act_fn, "forward", fail)
    with pytest.raises(Failure):
        score(llama, corpus, [variant], Store(None))
    assert all(torch.equal(before[name], parameter) for name, parameter in llama.model.named_parameters())


def test_a_delta_is_found_again(
    llama: LoadedModel, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [modify(llama, corpus, MASK, [spec], Store(tmp_path)) for spec in ALL]
    monkeypatch.setattr(LayerwisePass, "look", None)
    assert [modify(llama, corpus, MASK, [spec], Store(tmp_path)) for spec in ALL] == made


def test_a_damaged_file_is_made_anew(llama: LoadedModel, corpus: Corpus, tmp_path: Path) -> None:
    spec = ModifierSpec.parse("mean")
    made = modify(llama, corpus, MASK, [spec], Store(tmp_path))
    (path,) = (tmp_path / "deltas").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-3])
    assert modify(llama, corpus, MASK, [spec], Store(tmp_path)) == made


def test_several_share_the_unpruned_pass(llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[LayerwisePass] = []
    inner = LayerwisePass.embed

    def embed(self: LayerwisePass) -> object:
        runs.append(self)
        return inner(self)

    monkeypatch.setattr(LayerwisePass, "embed", embed)
    variants = modify_each(llama, corpus, MASK, [[spec] for spec in ALL], Store(None))
    assert len(runs) == 1
    assert runs[0].forwards <= 3
    assert variants == [modify(llama, corpus, MASK, [spec], Store(None)) for spec in ALL]


def test_deltas_stack_in_order(llama: LoadedModel, corpus: Corpus, store: Store) -> None:
    mean, refit = (ModifierSpec.parse(name) for name in ("mean", "refit"))
    variant = modify(llama, corpus, MASK, [mean, refit], store)
    assert str(variant) == "2 + mean + refit"
    assert variant == modify(llama, corpus, modify(llama, corpus, MASK, [mean], store), [refit], store)
    alone = modify(llama, corpus, MASK, [refit], store)
    name = "layers.1.mlp.down_proj.weight"
    assert not torch.equal(variant.deltas[1].tensors[name], alone.deltas[0].tensors[name])  # it sees what mean left
    found = score(llama, corpus, [variant, alone], store)
    assert not np.allclose(found[0].nll, found[1].nll)


def test_what_is_before_the_first_change_is_not_run_again(llama: LoadedModel, corpus: Corpus) -> None:
    variant, store = modify(llama, corpus, Mask.parse("3"), [ModifierSpec.parse("mean")], Store(None)), Store(None)
    live = LiveScoring(HiddenStateCache(2**30), lambda estimates: None)
    score(llama, corpus, [NONE], store, live=live)
    with llama.wrappers.counting() as count:
        (found,) = score(llama, corpus, [variant], store, live=live)
    assert count.evaluations == 0  # layer 3 is off, and all before it is known
    np.testing.assert_array_equal(found.nll, score(llama, corpus, [variant], Store(None))[0].nll)


def test_company_does_not_change_a_number(llama: LoadedModel, corpus: Corpus) -> None:
    variants = modify_each(llama, corpus, MASK, [[spec] for spec in ALL], Store(None))
    together = score(llama, corpus, [MASK, *variants, NONE], Store(None))
    for variant, found in zip([MASK, *variants, NONE], together, strict=True):
        np.testing.assert_array_equal(found.nll, score(llama, corpus, [variant], Store(None))[0].nll)


def test_it_can_be_stopped(llama: LoadedModel, corpus: Corpus, store: Store) -> None:
    def stop(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        modify(llama, corpus, MASK, [ModifierSpec.parse("refit")], store, stop)


def test_memory_that_runs_out_halves_the_batch(
    llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes, inner = [], Reference.before

    def before(self: Reference, *args: object, **options: bool) -> object:
        sizes.append(self.run.rows)
        if self.run.rows > 1:
            raise torch.OutOfMemoryError
        return inner(self, *args, **options)

    monkeypatch.setattr(Reference, "before", before)
    modify(llama, corpus, MASK, [ModifierSpec.parse("linear")], Store(None))
    assert sizes[:2] == [4, 2]
    assert sizes[-1] == 1


@pytest.mark.parametrize("spec", ALL, ids=str)
@pytest.mark.parametrize("kind", ["one", "identical"])
def test_poor_calibration_does_not_explode(llama: LoadedModel, corpus: Corpus, spec: ModifierSpec, kind: str) -> None:
    ids = np.repeat(corpus.calibration.ids[:1], 1 if kind == "one" else 9, axis=0)
    poor = dataclasses.replace(corpus, calibration=Windows(ids, np.ones(len(ids), np.int64)))
    variant = modify(llama, poor, MASK, [spec], Store(None))
    pruned, modified = score(llama, corpus, [MASK, variant], Store(None))
    assert np.isfinite(modified.nll).all()
    assert modified.total_nll < 2 * pruned.total_nll


def test_overflow_is_said(tiny: Tiny) -> None:
    loaded = load_folder(tiny.folder("llama"), "float16")
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    with torch.no_grad():
        loaded.wrappers.layers[2].mlp.down_proj.weight.fill_(6e4)
    with pytest.raises(ModifyError, match="overflows in float16"):
        modify(loaded, corpus, Mask.parse("3"), [ModifierSpec.parse("linear")], Store(None))


@pytest.mark.parametrize(
    ("spec", "mask", "words"),
    [
        ("nonsense", "2", "Unknown modifier"),
        ("refit;rank=3", "2", "no option 'rank'"),
        ("linear;rank=x", "2", "no such value"),
        ("linear;rank=-1", "2", "no such value"),
        ("replaceme;loss=mse", "2", "squares, cosine"),
        ("refit", "none", "nothing is off"),
        ("replaceme", "0", "nothing is before"),
        ("replaceme", "m2", "a2 is before"),
        ("scale", "a2", "a2 is off alone"),
        ("channels", "1,m3", "m3 is off alone"),
    ],
)
def test_what_does_not_apply_is_refused(llama: LoadedModel, corpus: Corpus, spec: str, mask: str, words: str) -> None:
    with pytest.raises(ModifyError, match=words):
        modify(llama, corpus, Mask.parse(mask), [ModifierSpec.parse(spec)], Store(None))


def test_a_layer_that_is_not_there_is_named(llama: LoadedModel, corpus: Corpus) -> None:
    with pytest.raises(MaskError, match="layer 7"):
        modify(llama, corpus, Mask.parse("7"), [ModifierSpec.parse("mean")], Store(None))


def test_quantized_weights_are_not_changed(llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "spec", dataclasses.replace(llama.spec, quantize="nf4"))
    for spec in ALL:
        if find_modifier(spec).makes == "weights":
            with pytest.raises(ModifyError, match="quantized"):
                modify(llama, corpus, MASK, [spec], Store(None))
        else:
            assert modify(llama, corpus, MASK, [spec], Store(None)).deltas[0].stand_ins


def test_the_share_won_back_is_of_the_summed_nats(llama: LoadedModel, corpus: Corpus, store: Store) -> None:
    variant = modify(llama, corpus, MASK, [ModifierSpec.parse("refit")], store)
    pruned, modified = score(llama, corpus, [MASK, variant], store)
    found = find_recovered(pruned, modified)
    lost, won = pruned.nll - pruned.baseline, pruned.nll - modified.nll
    assert found.share == pytest.approx(won.sum() / lost.sum())
    left_out = [np.delete(won, i).sum() / np.delete(lost, i).sum() for i in range(5)]
    spread = np.sqrt(4 / 5 * np.square(left_out - np.mean(left_out)).sum())
    assert found.interval is not None
    assert found.interval[1] - found.interval[0] == pytest.approx(2 * 2.7764 * spread, rel=1e-3)  # t of 4 degrees
    assert np.isnan(find_recovered(pruned.unpruned, modified).share)


def test_a_variant_of_nothing_is_its_mask(llama: LoadedModel, corpus: Corpus, store: Store) -> None:
    assert modify(llama, corpus, MASK, [], store) == Variant(MASK)


@pytest.mark.parametrize("spec", ["refit", "linear"])
def test_the_windows_left_out_do_not_depend_on_the_batch(
    llama: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    found = []
    for rows in (1, 4, 16):
        monkeypatch.setattr(llama.batch_shape, "tokens", rows * WINDOW)
        found.append(modify(llama, corpus, MASK, [spec], Store(None)).deltas[0])
    for other in found[1:]:
        assert list(other.tensors) == list(found[0].tensors)
        for name, tensor in found[0].tensors.items():
            torch.testing.assert_close(other.tensors[name], tensor, rtol=1e-3, atol=1e-4)
