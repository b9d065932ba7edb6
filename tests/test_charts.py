"""Figures show the numbers of the record, in their places."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.charts import TOKEN_LABELS, draw_redundancy, shade
from explorer.records import Redundancy

LAYERS = 5


@pytest.fixture
def found() -> Redundancy:
    random = np.random.default_rng(0)
    return Redundancy(
        {choice: random.random((3, LAYERS + 1, LAYERS + 1)) for choice in TOKEN_LABELS},
        {unit: random.random((3, 4, LAYERS)) for unit in ("layer", "attention", "mlp")},
        {(power, unit): random.random((3, 4, LAYERS)) for power in (1, 2) for unit in ("layer", "attention", "mlp")},
        random.random((3, 4, LAYERS + 1)),
        tokens=12,
        corpus="digest",
        model="model",
        dtype="float32",
    )


@pytest.mark.parametrize("token", list(TOKEN_LABELS))
def test_the_triangle_has_start_across_and_size_down(found: Redundancy, token: str) -> None:
    triangle = draw_redundancy(found, token).data[0]
    mean = found.angular[token].mean(axis=0)
    for size in range(1, LAYERS + 1):
        for start in range(LAYERS):
            value = triangle.z[size - 1, start]
            if start + size <= LAYERS:
                assert value == mean[start, start + size]
            else:
                assert np.isnan(value)


def test_the_strips_carry_the_influence(found: Redundancy) -> None:
    strips = draw_redundancy(found, "mean", without_first=True).data[1]
    expected = [found.influence[unit][:, 1:].mean(axis=(0, 1)) for unit in ("layer", "attention", "mlp")]
    np.testing.assert_allclose(strips.customdata, expected)
    np.testing.assert_allclose(10**strips.z, expected)


def test_the_most_redundant_is_the_brightest() -> None:
    colours = shade(np.array([0.5, 0.001, 0.05]))
    brightness = [sum(map(int, colour[4:-1].split(", "))) for colour in colours]
    assert brightness[1] > brightness[2] > brightness[0]
