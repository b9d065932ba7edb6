"""What the browser is told of pairs of layers: rows that add up to what both cost together."""

from __future__ import annotations

import math

import numpy as np
import pytest

from explorer.evaluation.scores import Score
from explorer.masks.mask import Mask
from explorer.masks.units import find_units
from explorer.measures.interactions import Interactions
from ui.explore.pairs import describe_pairs


def lose(mask: str, nats: float) -> Score:
    return Score(Mask.parse(mask), np.array([10.0 + 10 * nats]), np.array([10.0]), 10, np.array([40]))


def test_rows_hold_what_a_layer_and_what_pairs_cost_beyond_their_parts() -> None:
    alone = [lose("a0", 0.1), lose("a1", 0.2), lose("m0", 0.3), None]
    pairs = np.array([[math.nan, 0.25], [0.25, math.nan]])
    windows = np.ones((2, 2), int)
    found = Interactions(find_units(2, "layer"), np.array([1.0, 0.5]), pairs, windows, 1)
    assert describe_pairs(found, alone) == [pytest.approx([0.6, 0.25]), [None]]
    unknown = Interactions(find_units(2, "layer"), np.array([1.0, 0.5]), np.full((2, 2), math.nan), windows, 1)
    assert describe_pairs(unknown, alone) == [[pytest.approx(0.6), None], [None]]
    assert describe_pairs(None, alone) is None
