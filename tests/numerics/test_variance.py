"""Shares of variance against sums of squares written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from explorer.numerics.variance import share_variance


def test_main_effects_are_sums_of_squares() -> None:
    values = np.random.default_rng(0).random((3, 4, 2, 5))
    expected = [0.0, 0.0, 0.0]
    total = 0.0
    for unit in range(5):
        table = values[..., unit]
        total += sum((float(value) - table.mean()) ** 2 for value in table.flat)
        for factor in range(3):
            for level in range(table.shape[factor]):
                part = np.take(table, level, axis=factor)
                expected[factor] += part.size * (part.mean() - table.mean()) ** 2
    found = share_variance(values)
    assert [each.share for each in found] == pytest.approx([each / total for each in expected])
    assert sum(each.share for each in found) < 1
    for each in found:
        assert each.interval is not None
        assert each.interval[0] <= each.share <= each.interval[1]


def test_one_factor_alone_explains_all() -> None:
    values = np.broadcast_to(np.random.default_rng(1).random((3, 1, 6)), (3, 4, 6)).copy()
    found = share_variance(values)
    assert [each.share for each in found] == pytest.approx([1, 0])


def test_without_variance_there_is_no_share() -> None:
    for each in share_variance(np.ones((2, 2, 3))):
        assert math.isnan(each.share)
        assert each.interval is None
