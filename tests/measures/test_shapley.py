"""Coalitions: games that can be worked out by hand, all their orders, and a model whose damage is shared out."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, permutations

import numpy as np
import pytest

from explorer.errors import Cancelled
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units, join
from explorer.measures import shapley
from explorer.measures.measure import measure_importance
from explorer.measures.shapley import measure_coalitions, measure_shapley
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support import brute_force

UNITS = [Mask.of_layers([layer]) for layer in range(4)]
Damage = Callable[[frozenset[int]], float]


class Game:
    """Damage of what is off, the same in every window but for a window's own height; notes what it is asked."""

    def __init__(self, damage: Damage) -> None:
        self.damage = damage
        self.asked: list[tuple[frozenset[int], slice]] = []

    def __call__(self, masks: Sequence[Mask], rows: slice) -> np.ndarray:
        off = [frozenset(mask.whole_layers) for mask in masks]
        self.asked += [(each, rows) for each in off]
        heights = 100 + 7 * np.arange(rows.start, rows.stop)
        return np.array([[self.damage(each) * (1 + (h - 100) / 70) + h for h in heights] for each in off])


def additive(off: frozenset[int]) -> float:
    return sum((1.0, 4.0, 0.5, 2.0)[i] for i in off)


def substitutes(off: frozenset[int]) -> float:
    """1 and 2 stand in for each other; 0 alone does nothing; 3 costs more when others are gone."""
    return 5.0 * ({1, 2} <= off) + 1.0 * (3 in off) * (1 + len(off & {0, 1}))


def shapley_by_orders(damage: Damage, n: int) -> np.ndarray:
    values = np.zeros(n)
    for order in permutations(range(n)):
        for place, unit in enumerate(order):
            values[unit] += damage(frozenset(order[: place + 1])) - damage(frozenset(order[:place]))
    return values / math.factorial(n)


def shapley_by_sets(damage: Damage, n: int) -> np.ndarray:
    values = np.zeros(n)
    for unit in range(n):
        others = [i for i in range(n) if i != unit]
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for chosen in map(frozenset, combinations(others, size)):
                values[unit] += weight * (damage(chosen | {unit}) - damage(chosen))
    return values


class AllOrders:
    """Draws every order once, in place of a generator."""

    def __init__(self, seed: int) -> None:
        self.orders: Iterator[tuple[int, ...]] = iter(permutations(range(4)))

    def sample(self, population: range, k: int) -> list[int]:
        assert (population, k) == (range(4), 4)
        return list(next(self.orders))


@pytest.mark.parametrize("damage", [additive, substitutes])
def test_over_all_orders_it_is_the_shapley_value(damage: Damage, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = shapley_by_orders(damage, 4)
    np.testing.assert_allclose(expected, shapley_by_sets(damage, 4))
    monkeypatch.setattr(shapley.random, "Random", AllOrders)
    values, samples = measure_shapley(UNITS, Game(damage), 3, 24, 0)
    np.testing.assert_allclose(values, expected * 1.1)  # windows weigh 1, 1.1, 1.2
    assert samples.shape == (24, 4)


def test_one_order_is_enough_for_an_additive_game() -> None:
    for seed in range(5):
        values, _ = measure_shapley(UNITS, Game(additive), 1, 1, seed)
        np.testing.assert_allclose(values, [1.0, 4.0, 0.5, 2.0])


def test_drawn_orders_come_near_and_each_sums_to_the_whole() -> None:
    values, samples = measure_shapley(UNITS, Game(substitutes), 1, 400, 0)
    errors = samples.std(0, ddof=1) / 20
    assert (np.abs(values - shapley_by_orders(substitutes, 4)) <= 4 * errors + 1e-9).all()
    np.testing.assert_allclose(samples.sum(1), substitutes(frozenset(range(4))))
    np.testing.assert_array_equal(values, measure_shapley(UNITS, Game(substitutes), 1, 400, 0)[0])
    assert not np.array_equal(values, measure_shapley(UNITS, Game(substitutes), 1, 400, 1)[0])


@pytest.mark.parametrize("n_units", [4, 5])
def test_coalitions_are_drawn_and_compared_as_the_paper_says(n_units: int) -> None:
    units, game = [Mask.of_layers([layer]) for layer in range(n_units)], Game(substitutes)
    values, samples = measure_coalitions(units, game, 6, 10, 0)
    assert len(game.asked) == 60
    assert [rows.start for _, rows in game.asked] == sorted(list(range(6)) * 10)
    assert all(rows.stop == rows.start + 1 for _, rows in game.asked)
    assert {len(off) for off, _ in game.asked} == {n_units // 2}
    assert len({off for off, _ in game.asked}) > n_units

    def loss(off: frozenset[int], rows: slice) -> float:
        return float(Game(substitutes)([join([units[i] for i in off])], rows)[0, 0])

    def contribution(unit: int, left_out: int | None) -> float:
        asked = [(off, rows) for off, rows in game.asked if rows.start != left_out]
        without = [loss(off, rows) for off, rows in asked if unit in off]
        beside = [loss(off, rows) for off, rows in asked if unit not in off]
        return sum(without) / len(without) - sum(beside) / len(beside)

    for unit in range(n_units):
        whole = contribution(unit, None)
        assert values[unit] == pytest.approx(whole)
        for window in range(6):
            assert samples[window, unit] == pytest.approx(6 * whole - 5 * contribution(unit, window))


def test_the_same_seed_draws_the_same() -> None:
    found = [measure_coalitions(UNITS, Game(additive), 2, 3, seed)[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_shapley_values_of_a_model_sum_to_its_total_damage(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    ids = llama_corpus.calibration.ids
    baseline, off = (
        brute_force.window_nll(brute_force.zeroed(llama.checkpoint.folder, mask), ids).sum()
        for mask in (NONE, Mask.parse("0-3"))
    )
    damage = (off - baseline) / (5 * (llama_corpus.window - 1))
    found = {i.unit: i for i in measure_importance(llama, llama_corpus, ["shapley"], store, permutations=3, seed=2)}
    assert found["layer"].values.sum() == pytest.approx(damage, rel=1e-4)
    assert found["attention"].values.sum() + found["mlp"].values.sum() == pytest.approx(damage, rel=1e-4)
    samples = found["attention"].samples
    assert samples is not None
    assert samples.shape == (3, 4)


def test_shapley_values_of_a_model_are_those_of_its_orders(
    llama: LoadedModel, llama_corpus: Corpus, store: Store
) -> None:
    folder, ids, known = llama.checkpoint.folder, llama_corpus.calibration.ids, {}

    def nll(off: list[int]) -> float:
        mask = join([units[i] for i in off])
        if mask not in known:
            known[mask] = brute_force.window_nll(brute_force.zeroed(folder, mask), ids).mean()
        return known[mask] / (llama_corpus.window - 1)

    units, draw, expected = find_units(4, "site"), random.Random(5), np.zeros(8)
    assert [str(unit) for unit in units] == ["a0", "m0", "a1", "m1", "a2", "m2", "a3", "m3"]
    for _ in range(2):
        order = draw.sample(range(8), 8)
        for place, unit in enumerate(order):
            expected[unit] += (nll(order[: place + 1]) - nll(order[:place])) / 2
    found = measure_importance(
        llama, llama_corpus, ["shapley"], store, units=["attention", "mlp"], permutations=2, seed=5
    )
    np.testing.assert_allclose(found[0].values, expected[::2], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[1].values, expected[1::2], rtol=1e-3, atol=1e-4)
    for each in found:
        assert each.samples is not None
        np.testing.assert_allclose(each.samples.mean(0), each.values)


def test_cancelled_coalitions_go_on(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    def cancel(done: int, total: int, what: str) -> None:
        if what == "Scoring coalitions" and done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        measure_importance(llama, llama_corpus, ["coalition"], store, cancel, units=["layer"])
    scored = store._db.execute("SELECT count(*) FROM nll").fetchone()[0]
    assert scored > 3 * 5
    (found,) = measure_importance(llama, llama_corpus, ["coalition"], store, units=["layer"])
    (whole,) = measure_importance(llama, llama_corpus, ["coalition"], Store(None), units=["layer"])
    np.testing.assert_allclose(found.values, whole.values, rtol=1e-5, atol=1e-6)
    handle = llama.model.get_input_embeddings().register_forward_pre_hook(lambda *_: 1 / 0)
    try:
        measure_importance(llama, llama_corpus, ["coalition"], store, units=["layer"])
    finally:
        handle.remove()
