"""Slices: every pair of a variant and a window in one of them, what begins alike together, costs about equal."""

from __future__ import annotations

from itertools import combinations

import pytest

from explorer.execution.slices import Cutter
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units

LAYERS = 12
UNITS = find_units(LAYERS, "site")
PAIRS = tuple(a | b for a, b in combinations(UNITS, 2))


def _cut(wanted: float, rows: int = 10, size: int = 4) -> tuple[Cutter, list]:
    cutter = Cutter({PAIRS: list(range(rows)), (NONE,): [20, 21]}, size, LAYERS)
    return cutter, cutter.cut(wanted)


@pytest.mark.parametrize("wanted", [0, 30, 100, 1000, 3000, 1e9])
def test_every_pair_is_in_one_slice(wanted: float) -> None:
    cutter, slices = _cut(wanted)
    found = [(variant, row) for part in slices for variant in part.variants for row in part.rows]
    every = {(mask, row) for mask in PAIRS for row in range(10)} | {(NONE, 20), (NONE, 21)}
    assert len(found) == len(every)
    assert set(found) == every
    assert sum(part.pairs for part in slices) == len(every)
    assert sum(part.cost for part in slices) >= cutter.cost


@pytest.mark.parametrize("wanted", [60, 100, 300])
def test_slices_cost_about_the_same_and_little_twice(wanted: float) -> None:
    cutter, (*slices, _) = _cut(wanted)
    assert max(part.cost for part in slices) <= wanted + 2 * (LAYERS + 1)
    assert sum(part.cost for part in slices) <= cutter.cost + len(slices) * (LAYERS + 1)


def test_short_work_is_not_cut() -> None:
    cutter, slices = _cut(1e9)
    assert [len(part.rows) for part in slices] == [10, 2]
    assert sum(part.cost for part in slices) == cutter.cost


def test_a_slice_has_whole_batches() -> None:
    assert {part.rows for part in _cut(100)[1]} == {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9), (20, 21)}


def test_the_cost_is_the_nodes_of_the_tree() -> None:
    masks = (Mask.parse("0"), Mask.parse("11"), Mask.parse("a11"), NONE)
    # from layer 0 and from layer 11 on, the head each time
    assert Cutter({masks: [0]}, 1, LAYERS).cost == 13 + 13 + 2 + 2
