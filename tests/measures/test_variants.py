"""Measures of a variant: those of the checkpoint that holds it, and of a plain model with its weights and hooks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from explorer.errors import PlanError
from explorer.evaluation import decode_speed
from explorer.evaluation.perplexity import score
from explorer.export import export
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.catalogue import MEASURES
from explorer.measures.measure import measure_importance, measure_interactions
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force, variants
from tests.support.tiny_models import WINDOW, Tiny, load_folder

OFF, LEFT = "1", [0, 2, 3]
POSSIBLE = [name for name in MEASURES if MEASURES[name].of_variants]


@pytest.fixture
def corpus(llama: LoadedModel) -> Corpus:
    return llama.tokenize("python-docs", 4 * WINDOW, WINDOW)


@pytest.fixture
def exported(llama: LoadedModel, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedModel:
    """The checkpoint of layer 1 off and refitted, as another model."""
    monkeypatch.setattr(decode_speed, "TOKENS", 2)
    export(llama, variants.make(llama, corpus, OFF, "refit"), tmp_path / "out", corpus, Store(None))
    return load_folder(tmp_path / "out")


@pytest.mark.parametrize(
    ("modifier", "mask", "more"),
    [
        ("refit", "1", "2"),  # beside a weight that was changed
        ("refit", "1", "a0"),  # that was changed itself
        ("refit", "1", "0"),
        ("linear", "1", "2"),  # behind what stands in
        ("linear", "1-2", "0,3"),
        ("linear", "a1,2", "m1"),  # in a layer in which something stands in, and which is off then
        ("mean", "m1", "1"),
        ("mean", "m1,a2", "2,a3"),
    ],
)
@pytest.mark.parametrize("family", ["llama", "gpt2", "falcon_parallel", "granite"])
def test_what_is_removed_later_leaves_the_deltas_as_they_are(
    tiny: Tiny, store: Store, family: str, modifier: str, mask: str, more: str
) -> None:
    loaded: LoadedModel = tiny.load(family)
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    variant = variants.make(loaded, corpus, mask, modifier)
    further = variant.without(Mask.parse(more))
    assert str(further) == f"{variant.mask} + {modifier} - {Mask.parse(more) - variant.mask}"
    found, before = score(loaded, corpus, [further, variant], store)
    model = brute_force.zero(variants.overwritten(loaded.checkpoint.folder, variant), Mask.parse(more) - variant.mask)
    np.testing.assert_allclose(found.nll, brute_force.window_nll(model, corpus.held_out.ids), rtol=1e-4)
    assert not np.allclose(found.nll, before.nll, rtol=1e-6)


@pytest.mark.parametrize("name", POSSIBLE)
def test_a_variant_is_measured_as_its_checkpoint_is(
    llama: LoadedModel, corpus: Corpus, exported: LoadedModel, store: Store, name: str
) -> None:
    whole = measure_importance(llama, corpus, [name], store, permutations=2)
    variant = variants.make(llama, corpus, OFF, "refit")
    found = measure_importance(llama, corpus, [name], store, permutations=2, variant=variant)
    expected = measure_importance(exported, corpus, [name], Store(None), permutations=2)
    assert [each.unit for each in found] == [each.unit for each in expected] == list(MEASURES[name].units)
    for ours, theirs, unpruned in zip(found, expected, whole, strict=True):
        assert ours.samples is not None
        assert theirs.samples is not None
        np.testing.assert_allclose(ours.values[LEFT], theirs.values, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(ours.samples[:, LEFT], theirs.samples, rtol=1e-3, atol=1e-5)
        assert np.isnan(ours.values[1])
        assert ours.order[-1] == 1
        assert not np.allclose(ours.values[LEFT], unpruned.values[LEFT], rtol=1e-3)
    again = measure_importance(llama, corpus, [name], store, permutations=2)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one.values, other.values)


def test_blocks_of_a_variant_are_those_of_its_checkpoint(
    llama: LoadedModel, corpus: Corpus, exported: LoadedModel, store: Store
) -> None:
    variant = variants.make(llama, corpus, OFF, "refit")
    found = measure_similarity(llama, corpus, store, variant=variant).blanked(variant.mask)
    theirs = measure_similarity(exported, corpus, Store(None))
    for token in found.angular:
        rows, expected = found.angular_distance(token), theirs.angular_distance(token)
        for start, first in enumerate(LEFT):
            for end, last in enumerate(LEFT[start:], start):
                assert rows[last - first][first] == pytest.approx(expected[end - start][start], abs=1e-5)
        known = sum(int(np.isfinite(row).sum()) for row in rows)
        assert known == sum(map(len, expected)), "no block begins or ends with a layer that is off"
        assert found.best_starts(token)[-1] == 0
    np.testing.assert_allclose(found.block_influence("mlp")[LEFT], theirs.block_influence("mlp"), atol=1e-5)


def test_pairs_of_a_variant_are_those_of_its_checkpoint(
    llama: LoadedModel, corpus: Corpus, exported: LoadedModel, store: Store
) -> None:
    variant = variants.make(llama, corpus, OFF, "refit")
    found = measure_interactions(llama, corpus, "layer", store, variant=variant)
    theirs = measure_interactions(exported, corpus, "layer", Store(None))
    assert list(found.units) == [find_units(4, "layer")[layer] for layer in LEFT]
    np.testing.assert_allclose(found.leave_one_out, theirs.leave_one_out, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.pairs, theirs.pairs, rtol=1e-3, atol=1e-5)


def test_a_mask_alone_is_a_variant_too(llama: LoadedModel, corpus: Corpus, store: Store) -> None:
    mask = Mask.parse("a1,2")
    (found,) = measure_importance(llama, corpus, ["loss"], store, units=["mlp"], variant=mask)
    assert np.isfinite(found.values).tolist() == [True, True, False, True]
    (base, more) = score(llama, corpus, [mask, mask | Mask.parse("m3")], store, "calibration")
    assert found.values[3] == pytest.approx((more.nll - base.nll).mean() / (WINDOW - 1), rel=1e-9)


@pytest.mark.parametrize("name", sorted(set(MEASURES) - set(POSSIBLE)))
def test_what_reads_weights_and_the_like_is_refused(
    llama: LoadedModel, corpus: Corpus, store: Store, name: str
) -> None:
    with pytest.raises(PlanError, match=f"{name} of 1"):
        measure_importance(llama, corpus, [name], store, variant=Mask.parse("1"))
    assert measure_importance(llama, corpus, [name], store, variant=NONE)
