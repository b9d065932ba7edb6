"""The cheapest combination within a budget against trying all."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from explorer.numerics.knapsack import choose_within


@pytest.mark.parametrize("seed", range(5))
def test_no_combination_within_the_budget_costs_less(seed: int) -> None:
    generator = np.random.default_rng(seed)
    sizes, damages = generator.uniform(0, 1e9, (6, 3)), generator.normal(size=(6, 3))
    damages[0, 1] = np.inf
    budget = float(np.median(sizes)) * 5

    def total(numbers: np.ndarray, ways: tuple[int, ...]) -> float:
        return float(numbers[range(6), list(ways)].sum())

    fitting = [ways for ways in product(range(3), repeat=6) if total(sizes, ways) <= budget]
    best = min(total(damages, ways) for ways in fitting)
    found = choose_within(sizes, damages, budget)
    assert found is not None
    assert total(sizes, tuple(found)) <= budget * (1 + 1e-6)
    assert total(damages, tuple(found)) == pytest.approx(best)


def test_what_does_not_fit_is_said() -> None:
    assert choose_within(np.ones((3, 2)), np.zeros((3, 2)), 2.5) is None
