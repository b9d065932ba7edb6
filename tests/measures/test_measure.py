"""Importance: every measure's numbers are those of plain transformers, or of what it was read from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.errors import Cancelled, ExplorerError
from explorer.evaluation.perplexity import score
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.catalogue import MEASURES
from explorer.measures.importance import Importance
from explorer.measures.measure import measure_importance
from explorer.measures.measure_type import UNITS
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus, Windows
from tests.support import brute_force

DIVERGENCES = ("kl", "logit-l2", "disagreement")


def by_name(found: list[Importance]) -> dict[tuple[str, str], Importance]:
    return {(each.measure, each.unit): each for each in found}


def without(loaded: LoadedModel, ids: np.ndarray, mask: Mask) -> dict[str, np.ndarray]:
    """What it costs to do without a mask, (windows,) a token, by plain transformers."""
    plain, zeroed = (brute_force.zeroed(loaded.checkpoint.folder, m) for m in (NONE, mask))
    before, after = (brute_force.logits(model, ids)[:, :-1].double() for model in (plain, zeroed))
    p, q = before.log_softmax(-1), after.log_softmax(-1)
    targets = torch.from_numpy(ids[:, 1:, None])
    values = {
        "loss": (p - q).gather(-1, targets)[..., 0],
        "kl": (p.exp() * (p - q)).sum(-1),
        "logit-l2": (before - after).square().sum(-1).sqrt(),
        "disagreement": (before.argmax(-1) != after.argmax(-1)).double(),
    }
    return {name: value.mean(1).numpy() for name, value in values.items()}


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "opt", "mixtral", "falcon_parallel"])
def test_doing_without_equals_the_oracle(tiny, store: Store, name: str) -> None:
    loaded: LoadedModel = tiny.load(name)
    corpus = loaded.tokenize("python-docs", 3 * 24, 24)
    found = by_name(measure_importance(loaded, corpus, ["loss", *DIVERGENCES], store))
    for unit in UNITS:
        for layer, mask in enumerate(find_units(loaded.n_layers, unit)):
            for measured, right in without(loaded, corpus.calibration.ids, mask).items():
                each = found[measured, unit]
                assert each.samples is not None
                np.testing.assert_allclose(each.samples[:, layer], right, rtol=1e-3, atol=1e-4)
                assert each.values[layer] == pytest.approx(right.mean(), rel=1e-3, abs=1e-4)


def test_loss_is_what_score_says(loaded: LoadedModel, corpus: Corpus, store: Store) -> None:
    found = by_name(measure_importance(loaded, corpus, ["loss"], store))
    for unit in UNITS:
        scores = score(loaded, corpus, find_units(loaded.n_layers, unit), Store(None), "calibration")
        expected = [s.delta_nll_per_token for s in scores]
        np.testing.assert_allclose(found["loss", unit].values, expected, rtol=1e-5, atol=1e-6)
        assert np.abs(expected).max() > 0.01


def test_similarities_are_those_of_the_stream(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    names = [name for name, each in MEASURES.items() if each.kind == "similarity"]
    found = by_name(measure_importance(llama, llama_corpus, names, store))
    plain, ids = brute_force.plain(llama.checkpoint.folder), llama_corpus.calibration.ids
    states, _ = brute_force.hidden_states(plain, ids)
    expected = brute_force.angular_distances(states, "last_token")[0]
    np.testing.assert_allclose(found["angular-distance", "layer"].values, expected, atol=1e-5)
    for unit in UNITS:
        influence = brute_force.influences(plain, ids)[unit]
        np.testing.assert_allclose(found["block-influence", unit].values, influence, atol=1e-5)
        for power in (1, 2):
            right = brute_force.sizes(plain, ids, power)[unit].mean(1)
            np.testing.assert_allclose(found[f"relative-l{power}", unit].samples, right, rtol=1e-3)


def test_everything_can_be_asked_at_once(llama: LoadedModel, llama_corpus: Corpus, tmp_path) -> None:
    store = Store(tmp_path)
    found = measure_importance(llama, llama_corpus, MEASURES, store)
    assert [(each.measure, each.unit) for each in found] == [
        (name, unit) for name, each in MEASURES.items() for unit in UNITS if unit in each.units
    ]
    for each in found:
        assert each.values.shape == (4,)
        assert np.isfinite(each.values).all(), each.measure
        assert each.samples is None or each.samples.shape[1:] == (4,)
        assert sorted(each.order) == [0, 1, 2, 3]
        intervals = each.intervals()
        assert (intervals is None) == (each.measure == "magnitude")
        assert intervals is None or np.isfinite(intervals).all(), each.measure
    handle = llama.model.get_input_embeddings().register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        again = measure_importance(llama, llama_corpus, MEASURES, store)
    finally:
        handle.remove()
        store.close()
    for before, after in zip(found, again, strict=True):
        np.testing.assert_array_equal(before.values, after.values)
        np.testing.assert_array_equal(before.intervals(), after.intervals())


def test_only_what_was_asked_comes_in_the_order_asked(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    found = measure_importance(llama, llama_corpus, ["taylor", "loss", "taylor"], store, units=["mlp"])
    assert [(each.measure, each.unit) for each in found] == [("taylor", "mlp"), ("loss", "mlp")]
    assert measure_importance(llama, llama_corpus, ["attention-sink"], store, units=["layer"]) == []
    with pytest.raises(ExplorerError, match="'nosuch'") as error:
        measure_importance(llama, llama_corpus, ["loss", "nosuch"], store)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(set(MEASURES) - {"coalition", "replaceability"}))
def test_importance_does_not_look_at_held_out_windows(llama: LoadedModel, llama_corpus: Corpus, name: str) -> None:
    """Nor does the order of the calibration windows matter."""
    windows = llama_corpus.calibration
    turned = Windows(windows.ids[::-1].copy(), windows.text_bytes[::-1].copy())
    blank = Windows(np.full_like(llama_corpus.held_out.ids, -1), llama_corpus.held_out.text_bytes)  # no such id
    found = measure_importance(llama, replace(llama_corpus, calibration=turned, held_out=blank), [name], Store(None))
    expected = measure_importance(llama, llama_corpus, [name], Store(None))
    for each, before in zip(found, expected, strict=True):
        np.testing.assert_allclose(each.values, before.values, rtol=1e-4, atol=1e-6)


def test_other_seeds_and_windows_are_not_mistaken_for_these(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    names = ["coalition", "shapley", "taylor", "replaceability"]
    shifted = replace(llama_corpus, calibration=llama_corpus.held_out, held_out=llama_corpus.calibration)
    first = measure_importance(llama, llama_corpus, names, store)
    others = [
        measure_importance(llama, llama_corpus, names[:2], store, seed=1),
        measure_importance(llama, shifted, names, store),
    ]
    for other in others:
        for each in other:
            assert not np.array_equal(each.values, by_name(first)[each.measure, each.unit].values)


@pytest.mark.parametrize("criterion", ["perplexity", "kl", "logit-l2"])
def test_losses_of_a_criterion(llama: LoadedModel, llama_corpus: Corpus, store: Store, criterion: str) -> None:
    masks, ids = [Mask.parse("a1"), Mask.parse("2")], llama_corpus.calibration.ids
    found = make_loss_function(llama, llama_corpus, store, criterion)(masks, slice(1, 4))
    assert found.shape == (2, 3)
    for mask, row in zip(masks, found, strict=True):
        if criterion == "perplexity":
            right = brute_force.window_nll(brute_force.zeroed(llama.checkpoint.folder, mask), ids[1:4])
        else:
            right = without(llama, ids[1:4], mask)[criterion] * (llama_corpus.window - 1)
        np.testing.assert_allclose(row, right, rtol=1e-4)


def test_units_are_listed_layer_by_layer() -> None:
    assert [str(mask) for mask in find_units(3, "layer")] == ["0", "1", "2"]
    assert [str(mask) for mask in find_units(2, "attention")] == ["a0", "a1"]
    assert [str(mask) for mask in find_units(2, "site")] == ["a0", "m0", "a1", "m1"]


def test_a_cancelled_measure_goes_on(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    def cancel(done: int, total: int, what: str) -> None:
        if what.startswith(("Gradients", "Comparing")) and done > 1:
            raise Cancelled

    for name in ("taylor", "kl"):
        with pytest.raises(Cancelled):
            measure_importance(llama, llama_corpus, [name], store, cancel)
        found = measure_importance(llama, llama_corpus, [name], store)
        for each, right in zip(found, measure_importance(llama, llama_corpus, [name], Store(None)), strict=True):
            np.testing.assert_allclose(each.values, right.values, rtol=1e-5)


def test_one_window_is_enough_and_has_no_interval(llama: LoadedModel, store: Store) -> None:
    corpus = llama.tokenize("python-docs", 24, 24)
    for each in measure_importance(llama, corpus, [name for name in MEASURES if name != "shapley"], store):
        assert each.intervals() is None
        assert np.isfinite(each.values).all()
    assert measure_similarity(llama, corpus, store).tokens == 24
