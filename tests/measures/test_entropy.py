"""Entropy: the increases are those of slow NumPy on plainly hooked hidden states."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from explorer.errors import Cancelled
from explorer.measures.catalogue import MEASURES
from explorer.measures.entropy import BINS, find_entropy
from explorer.measures.importance import Importance
from explorer.measures.measure import measure_importance
from explorer.model.loading import LoadedModel
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force


def entropy(states: np.ndarray) -> float:
    """Nats of the states (tokens, width) of one window: 20 bins a dimension, dimension by dimension, value by value."""
    total = 0.0
    for values in states.astype(np.float64).T:
        low, high = values.min(), values.max()
        counts = [0] * 20
        for value in values:
            counts[min(19, int((value - low) / (high - low) * 20)) if high > low else 0] += 1
        total -= sum(n / len(values) * math.log(n / len(values)) for n in counts if n)
    return total


def increases(loaded: LoadedModel, ids: np.ndarray) -> dict[str, np.ndarray]:
    """unit -> (windows, L)."""
    plain = brute_force.plain(loaded.checkpoint.folder)
    states, updates = brute_force.hidden_states(plain, ids)
    found: dict[str, list[list[float]]] = {"layer": [], "attention": [], "mlp": []}
    for window in range(len(ids)):
        rows: dict[str, list[float]] = {unit: [] for unit in found}
        for layer, (a, m) in enumerate(zip(updates["attention"], updates["mlp"], strict=True)):
            x, f, g = states[layer][window], a[window], m[window]
            before = x if brute_force.is_parallel(plain) else x + f
            rows["layer"].append(entropy(states[layer + 1][window]) - entropy(x))
            rows["attention"].append(entropy(x + f) - entropy(x))
            rows["mlp"].append(entropy(before + g) - entropy(before))
        for unit, row in rows.items():
            found[unit].append(row)
    return {unit: np.array(each) for unit, each in found.items()}


def measure(loaded: LoadedModel, corpus: Corpus, store: Store) -> dict[str, Importance]:
    return {each.unit: each for each in measure_importance(loaded, corpus, ["entropy"], store)}


def test_entropy_equals_the_oracle(loaded: LoadedModel, store: Store) -> None:
    corpus = loaded.tokenize("python-docs", 3 * 24, 24)
    found = measure(loaded, corpus, store)
    for unit, right in increases(loaded, corpus.calibration.ids).items():
        # a value at the edge of a bin may fall to either side of it, which moves a sum over dimensions a little
        off = np.abs(found[unit].samples - right)
        assert np.mean(off < 1e-6) > 0.9, unit
        assert off.max() < 0.5, unit
        np.testing.assert_allclose(found[unit].values, found[unit].samples.mean(0))
        assert np.abs(right).max() > 0.5


def test_entropy_of_states_that_are_known() -> None:
    assert BINS == 20
    spread = torch.arange(20.0)[None, :, None].repeat(1, 1, 3)  # every token a bin of its own, in three dimensions
    assert float(find_entropy(spread)[0]) == pytest.approx(3 * math.log(20))
    spread[..., 0] = 7  # a dimension that is constant
    assert float(find_entropy(spread)[0]) == pytest.approx(2 * math.log(20))
    halves = torch.tensor([0.0, 0, 1, 1])[None, :, None]
    assert float(find_entropy(halves)[0]) == pytest.approx(math.log(2))
    assert float(find_entropy(halves * 1e-3 + 5)[0]) == pytest.approx(math.log(2))
    halves[0, 0, 0] = math.inf
    assert math.isnan(find_entropy(halves)[0])


def test_batches_do_not_matter(llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    together = measure(llama, llama_corpus, Store(None))
    monkeypatch.setattr(llama.batch_shape, "tokens", llama_corpus.window)
    for unit, alone in measure(llama, llama_corpus, Store(None)).items():
        np.testing.assert_allclose(alone.samples, together[unit].samples, atol=0.3)


def test_a_plan_removes_what_adds_least(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    found = measure(llama, llama_corpus, store)
    order = [str(layer) for layer in found["layer"].values.argsort(kind="stable")]
    plan = make_plan(llama, llama_corpus, PlanSpec.parse("entropy/layer"), store)
    assert plan.order == tuple(order[:3])
    both = [(v, layer, part) for part in ("attention", "mlp") for layer, v in enumerate(found[part].values)]
    plan = make_plan(llama, llama_corpus, PlanSpec.parse("entropy/site;steps=2"), store)
    assert plan.order == tuple(f"{part[0]}{layer}" for _, layer, part in sorted(both)[:2])


def test_what_is_stored_needs_no_forward_and_another_text_is_another_number(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        measure_importance(llama, llama_corpus, ["entropy"], store, cancel)
    first = measure(llama, llama_corpus, store)
    turned = replace(llama_corpus, calibration=llama_corpus.held_out, held_out=llama_corpus.calibration)
    assert not np.array_equal(measure(llama, turned, store)["layer"].values, first["layer"].values)
    monkeypatch.setattr(llama.wrappers, "observe", lambda *_: 1 / 0)
    np.testing.assert_array_equal(measure(llama, llama_corpus, store)["mlp"].samples, first["mlp"].samples)


def test_it_says_what_it_is() -> None:
    found = MEASURES["entropy"]
    assert (found.needs, found.cost, found.redundant, found.unit_of) == ("hidden states", "one pass", "low", "nats")
    assert "2504.03794" in found.source
