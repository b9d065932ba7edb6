"""A streamed model: the numbers of the resident one to the last bit, and the weights read once for all masks."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from explorer.checkpoints.spec import ModelSpec
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.errors import Cancelled, ExportError, UnsupportedModel
from explorer.evaluation.decode_speed import measure_decode_speed
from explorer.evaluation.divergence import measure_divergence
from explorer.evaluation.generation import generate
from explorer.evaluation.perplexity import score, score_tokens
from explorer.evaluation.scores import Score
from explorer.export import export
from explorer.masks.mask import NONE, Mask
from explorer.measures.catalogue import MEASURES
from explorer.measures.criterion import LossRequest
from explorer.measures.last_token_cosine import measure_last_token_cosine
from explorer.measures.measure import measure_importance
from explorer.measures.similarity import measure_similarity
from explorer.model.layer_stream import LayerStream
from explorer.model.loading import LoadedModel, load
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import FAMILIES, WINDOW, Tiny, load_folder, make_model, save

MASKS = [NONE, *map(Mask.parse, ("1", "a0,m2", "0,a3", "1-2", "0-3"))]


def both(tiny: Tiny, family: str = "llama") -> tuple[LoadedModel, LoadedModel, Corpus]:
    """A model in memory, streamed, and five windows of a split."""
    resident = tiny.load(family)
    return resident, tiny.load(family, stream=True), resident.tokenize("python-docs", 5 * WINDOW, WINDOW)


def bytes_read(loaded: LoadedModel) -> int:
    assert loaded.wrappers.stream is not None
    return loaded.wrappers.stream.files.bytes_read


def weights_of_layers(loaded: LoadedModel) -> int:
    return sum(weight.nbytes for layer in loaded.wrappers.layers for weight in layer.parameters())


def check_equal(expected: list[Score], found: list[Score]) -> None:
    for a, b in zip(expected, found, strict=True):
        assert (a.variant, a.overflow) == (b.variant, b.overflow)
        assert np.array_equal(a.nll, b.nll)


def test_scores_are_the_same(tiny: Tiny, family: str) -> None:
    resident, streamed, corpus = both(tiny, family)
    masks = MASKS + [Mask(frozenset({site})) for site in resident.sites]
    check_equal(*(score(each, corpus, masks, Store(None)) for each in (resident, streamed)))


def test_the_weights_are_read_once_for_all_single_sites(tiny: Tiny) -> None:
    _, streamed, corpus = both(tiny)
    before = bytes_read(streamed)
    score(streamed, corpus, [Mask(frozenset({site})) for site in streamed.sites], Store(None))
    assert bytes_read(streamed) - before == weights_of_layers(streamed)


def test_what_is_stored_is_not_computed_again_whoever_computed_it(tiny: Tiny, store: Store) -> None:
    resident, streamed, corpus = both(tiny)
    expected = score(resident, corpus, MASKS, store)
    before = bytes_read(streamed)
    check_equal(expected, score(streamed, corpus, MASKS, store))
    assert bytes_read(streamed) == before


def test_states_beyond_memory_are_on_the_disk(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    resident, streamed, corpus = both(tiny)
    monkeypatch.setattr(LayerStream, "largest", 3 * 5 * WINDOW * 32 * 4)
    store = Store(tmp_path)
    check_equal(score(resident, corpus, MASKS, Store(None)), score(streamed, corpus, MASKS, store))
    assert not list(tmp_path.glob("states-*"))


def test_variants_beyond_the_disk_wait(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    resident, streamed, corpus = both(tiny)
    states = 5 * WINDOW * 32 * 4
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=8 * states))
    before = bytes_read(streamed)
    found = score(streamed, corpus, MASKS, Store(None))
    assert bytes_read(streamed) - before == 2 * weights_of_layers(streamed)
    check_equal(score(resident, corpus, MASKS, Store(None)), found)


def test_variants_with_changed_weights_are_the_same(tiny: Tiny) -> None:
    resident, streamed, corpus = both(tiny)
    mask, linear, refit = Mask.parse("1,m2"), ModifierSpec.parse("linear"), ModifierSpec.parse("refit")
    made = [modify(resident, corpus, mask, [spec], Store(None)) for spec in (linear, refit)]
    check_equal(*(score(each, corpus, [*made, mask], Store(None)) for each in (resident, streamed)))
    assert modify(streamed, corpus, mask, [linear], Store(None)) == made[0]


def test_cancelled_work_lets_the_layer_go(tiny: Tiny) -> None:
    _, streamed, corpus = both(tiny)

    def stop(done: int, total: int, what: str) -> None:
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        score(streamed, corpus, [NONE], Store(None), progress=stop)
    assert all(weight.is_meta for layer in streamed.wrappers.layers for weight in layer.parameters())


def test_tokens_divergences_and_turns_are_the_same(tiny: Tiny, family: str) -> None:
    resident, streamed, corpus = both(tiny, family)
    ids = corpus.held_out.ids
    assert np.array_equal(*(score_tokens(each, ids, MASKS[2]) for each in (resident, streamed)))
    for a, b in zip(
        *(measure_divergence(each, corpus, MASKS, Store(None)) for each in (resident, streamed)), strict=True
    ):
        assert (a.variant, a.tokens) == (b.variant, b.tokens)
        for name in ("kl", "logit_l2", "top1_matches"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
    turns = (measure_last_token_cosine(LossRequest(each, corpus, MASKS, Store(None))) for each in (resident, streamed))
    assert np.array_equal(*turns)


def test_similarity_is_the_same(tiny: Tiny, family: str) -> None:
    resident, streamed, corpus = both(tiny, family)
    for mask in (NONE, Mask.parse("1,a2")):
        a, b = (measure_similarity(each, corpus, Store(None), variant=mask) for each in (resident, streamed))
        for name in ("angular", "influence", "sizes"):
            expected, found = getattr(a, name), getattr(b, name)
            assert expected.keys() == found.keys()
            assert all(np.array_equal(expected[key], found[key], equal_nan=True) for key in expected)
        assert np.array_equal(a.norms, b.norms)


def test_similarity_reads_the_weights_once(tiny: Tiny) -> None:
    _, streamed, corpus = both(tiny)
    before = bytes_read(streamed)
    measure_similarity(streamed, corpus, Store(None))
    assert bytes_read(streamed) - before == weights_of_layers(streamed)


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        *((name, "none") for name in MEASURES if not name.startswith("attention")),
        *((name, "1,a2") for name, measure in MEASURES.items() if measure.of_variants),
    ],
)
def test_measures_are_the_same(tiny: Tiny, name: str, mask: str) -> None:
    resident, streamed, corpus = both(tiny)
    options: dict[str, Any] = {"permutations": 1, "variant": Mask.parse(mask)}
    for a, b in zip(
        *(measure_importance(each, corpus, [name], Store(None), **options) for each in (resident, streamed)),
        strict=True,
    ):
        assert (a.measure, a.unit) == (b.measure, b.unit)
        assert np.array_equal(a.values, b.values, equal_nan=True)
        assert a.samples is None or np.array_equal(a.samples, b.samples, equal_nan=mask != "none")


def test_what_would_read_the_weights_too_often_is_refused(tiny: Tiny) -> None:
    _, streamed, corpus = both(tiny)
    with pytest.raises(UnsupportedModel, match="Attention of a streamed model"):
        measure_importance(streamed, corpus, ["attention-entropy"], Store(None))
    with pytest.raises(UnsupportedModel, match="does not write"):
        generate(streamed, NONE, "Once", 3)
    with pytest.raises(UnsupportedModel, match="does not write"):
        measure_decode_speed(streamed, [NONE])
    assert measure_decode_speed(streamed, []) == []


@pytest.mark.parametrize(
    ("family", "format", "mask"),
    [
        ("llama", "transformers", "1"),
        ("gemma2", "pruned-remote-code", "1,m3"),
        ("mixtral", "transformers-zeroed", "a2"),
    ],
)
def test_an_export_is_proved_and_its_proof_is_streamed(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, format: str, mask: str
) -> None:
    _, streamed, corpus = both(tiny, family)
    made: list[LayerStream] = []
    inner = LayerStream.__init__
    monkeypatch.setattr(LayerStream, "__init__", lambda self, *words: (made.append(self), inner(self, *words))[1])
    exported = export(streamed, Mask.parse(mask), tmp_path / "out", corpus, Store(None), format=format)
    assert len(made) == 1
    assert exported.verification.perplexity_reloaded == exported.verification.perplexity_masked


def test_gguf_of_a_streamed_model_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    _, streamed, corpus = both(tiny)
    with pytest.raises(ExportError, match="not written as GGUF"):
        export(streamed, Mask.parse("1"), tmp_path / "out", corpus, Store(None), format="gguf")


def test_a_pruned_checkpoint_streams(tmp_path: Path) -> None:
    config, mask = FAMILIES["llama"](), Mask.parse("a1,m3")
    config.intermediate_size = 256
    whole = load_folder(save(make_model(config), tmp_path / "whole"), stream=True)
    corpus = whole.tokenize("python-docs", 5 * WINDOW, WINDOW)
    export(whole, mask, tmp_path / "pruned", corpus, Store(None), format="deci")
    spec = ModelSpec(str(tmp_path / "pruned"), "float32", "cpu", trust_remote_code=True, stream=True)
    pruned = load(spec, Store(None), tmp_path)
    assert pruned.absent == mask
    (expected,) = score(whole, corpus, [mask], Store(None))
    (found,) = score(pruned, corpus, [NONE], Store(None))
    assert np.array_equal(expected.nll, found.nll)


def test_shards_in_half_precision_are_scored_the_same(tmp_path: Path) -> None:
    folder = save(make_model(FAMILIES["qwen3_moe"]()).bfloat16(), tmp_path / "model", max_shard_size="30KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    models = [load_folder(folder, "float32", stream) for stream in (False, True)]
    corpus = models[0].tokenize("python-docs", 5 * WINDOW, WINDOW)
    check_equal(*(score(each, corpus, MASKS, Store(None)) for each in models))
