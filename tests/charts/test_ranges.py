"""What axes and colour bars show: ends, ticks, and signs for what lies beyond."""

from __future__ import annotations

import math

import numpy as np
import pytest

from explorer.charts import draw_redundancy
from explorer.charts.curves import Shares, draw_curves
from explorer.charts.layers import draw_scatter, draw_strips
from explorer.charts.ranges import ColourRange, find_colours, find_log_ticks, fit_log_axis, make_colour_bar
from explorer.charts.style import tick_step
from explorer.measures.importance import Importance
from explorer.measures.similarity import read_similarity
from tests.support.figures import costs, curve_of, make


def test_colours_end_where_few_values_lie_beyond() -> None:
    values = np.concatenate([np.linspace(0.1, 0.2, 197), [5.0, 9.0, np.nan, np.inf]])
    found = find_colours(values)
    assert 0.1 < found.low < 0.102
    assert 0.19 < found.high <= 0.2
    assert (found.below, found.above) == (True, True)
    assert find_colours(np.arange(5.0)) == ColourRange(0, 4)
    assert find_colours(np.array([np.nan])) == ColourRange(0, 1)


def test_bars_mark_the_ends_that_have_values_beyond() -> None:
    bar = make_colour_bar(ColourRange(0.0, 0.437, above=True))
    assert bar["ticktext"] == ["0", "0.1", "0.2", "0.3", "≥ 0.437"]
    assert bar["tickvals"][-1] == 0.437
    log = make_colour_bar(ColourRange(-2.3, 0.0, below=True), log=True)
    assert log["ticktext"] == ["≤ 0.005", "0.01", "0.1", "1"]


def test_ticks_of_a_short_bar_do_not_meet() -> None:
    found = ColourRange(math.log10(0.31), math.log10(0.65), above=True)
    assert make_colour_bar(found, log=True, apart=0.2)["ticktext"] == ["0.4", "0.5", "≥ 0.65"]


def test_an_edge_layer_does_not_take_the_colours() -> None:
    found = make(30)
    for values in found.influence.values():
        values *= 0.01
        values[..., 0] = 1.0
    strips = draw_redundancy(found, "mean").data[1]
    assert strips.zmax < -1.5
    assert strips.z.max() == pytest.approx(0)
    assert strips.colorbar.ticktext[-1].startswith("≥ ")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.5, 3e4, [1, 10, 100, 1000, 10000]),
        (12, 90, [20, 40, 60, 80]),
        (8, 90, [10, 20, 50]),
        (15, 18, [15, 15.5, 16, 16.5, 17, 17.5, 18]),
        (1e-4, 0.5, [1e-4, 1e-3, 0.01, 0.1]),
    ],
)
def test_log_axes_have_few_ticks(low: float, high: float, ticks: list[float]) -> None:
    found = find_log_ticks(low, high)
    assert found == pytest.approx(ticks)
    assert 2 <= len(found) <= 8


@pytest.mark.parametrize(("layers", "step"), [(1, 1), (30, 1), (32, 2), (80, 5), (126, 10), (200, 20)])
def test_layers_are_ticked_at_round_numbers(layers: int, step: int) -> None:
    assert tick_step(layers) == step


def test_a_log_axis_has_room_for_every_value_that_can_be_drawn() -> None:
    axis = fit_log_axis([3.0, None, math.inf, 700.0, 0.0])
    assert axis["range"][0] < math.log10(3) < math.log10(700) < axis["range"][1]
    assert axis["ticktext"] == ["10", "100"]


def test_what_lies_beyond_the_axis_is_hollow_at_its_edge() -> None:
    curve = curve_of(10, 12, 3e7, 2e8)
    figure = draw_curves([curve], ["a"], Shares("layers", 4, costs))
    (beyond,) = (trace for trace in figure.data if trace.name == "a: beyond the axis")
    assert tuple(beyond.x) == (0.5, 0.75)
    np.testing.assert_allclose(np.log10(beyond.y), figure.layout.yaxis.range[1])
    assert beyond.marker.symbol.endswith("-open")
    assert "3e+07" in beyond.text[0]
    assert list(beyond.customdata) == [str(curve.plan.at(step)) for step in (2, 3)]
    within = draw_curves([curve_of(10, 12)], ["a"], Shares("layers", 4, costs))
    assert not any("beyond" in (trace.name or "") for trace in within.data)


def test_intervals_are_wider_than_their_markers() -> None:
    for layers in (5, 126):
        shown = [each for each in read_similarity(make(layers)) if each.measure == "block-influence"]
        for trace in draw_strips(shown, [], draws=50).data:
            assert 2 * trace.error_y.width > trace.marker.size
            assert trace.error_y.thickness > 1


def test_blocks_are_told_in_words() -> None:
    targets = draw_redundancy(make(), "mean").data[3]
    told = {(x, y): text for x, y, text in zip(targets.x, targets.y, targets.text, strict=True)}
    assert told[1, 1].startswith("layer 1 (1)<br>angular distance 0.")
    assert told[1, 3].startswith("layers 1-3 (3)<br>")
    assert told[1, 3].endswith("]")


def test_labels_of_a_scatter_do_not_meet() -> None:
    random = np.random.default_rng(0)
    across, up = (Importance("magnitude", "layer", 1 + random.random(126)) for _ in range(2))
    points = draw_scatter(across, up).data[0]
    labelled = [(x, y) for x, y, text in zip(points.x, points.y, points.text, strict=True) if text]
    assert 1 <= len(labelled) <= 8
    for number, (x, y) in enumerate(labelled):
        assert all(abs(x - a) > 0.04 or abs(y - b) > 0.05 for a, b in labelled[:number])
    assert [text for text in points.text if text] == [str(n) for n in points.customdata if points.text[n]]
