"""Figures show the numbers of the record, in their places."""

from __future__ import annotations

import numpy as np
import pytest

from explorer.charts import TOKEN_LABELS, draw_redundancy, shade
from explorer.charts.curves import AXES, Shares, draw_curves, draw_divergences, draw_orders
from explorer.charts.layers import draw_agreement, draw_heads, draw_scatter, draw_strips
from explorer.charts.pairs import draw_pairs
from explorer.charts.ranges import find_colours
from explorer.charts.triangle import draw_side_by_side, tabulate
from explorer.masks.mask import NONE, Mask
from explorer.measures.importance import Importance
from explorer.measures.interactions import Interactions
from explorer.measures.similarity import read_similarity
from explorer.measures.similarity_stats import SimilarityStats
from explorer.numerics.rank_correlation import correlate
from tests.support.figures import LAYERS, UNITS, costs, curve_of, make


@pytest.fixture
def found() -> SimilarityStats:
    return make()


@pytest.mark.parametrize("token", list(TOKEN_LABELS))
def test_the_triangle_has_start_across_and_size_down(found: SimilarityStats, token: str) -> None:
    triangle = draw_redundancy(found, token).data[0]
    mean = found.angular[token].mean(axis=0)
    for size in range(1, LAYERS + 1):
        for start in range(LAYERS):
            value = triangle.z[size - 1, start]
            if start + size <= LAYERS:
                assert value == mean[start, start + size]
            else:
                assert np.isnan(value)


def test_best_starts_are_outlined_and_every_block_can_be_clicked(found: SimilarityStats) -> None:
    _, _, outlines, targets = draw_redundancy(found, "mean").data
    rows = found.angular_distance("mean")
    corners = np.array([[outlines.x[k::6], outlines.y[k::6]] for k in range(4)], float)  # four corners of each cell
    for size, row in enumerate(rows, 1):
        best = int(np.argmin(row))
        assert {tuple(each) for each in corners[:, :, size - 1]} == {
            (best + across, size + down) for across in (-0.5, 0.5) for down in (-0.5, 0.5)
        }
    assert outlines.cliponaxis is False
    assert len(targets.x) == LAYERS * (LAYERS + 1) // 2
    for x, y, (start, size, distance) in zip(targets.x, targets.y, targets.customdata, strict=True):
        assert (x, y) == (start, size)
        assert distance == rows[int(size) - 1][int(start)]


def test_rescaled_rows_run_from_0_to_1_and_keep_their_numbers(found: SimilarityStats) -> None:
    plain, rescaled = (draw_redundancy(found, "mean", rescaled=how).data[0] for how in (False, True))
    for row in rescaled.z[:-1]:
        assert (np.nanmin(row), np.nanmax(row)) == (0, 1)
    np.testing.assert_array_equal(rescaled.customdata, plain.z)
    np.testing.assert_array_equal(np.nanargmin(rescaled.z, axis=1), np.nanargmin(plain.z, axis=1))


def test_the_strips_carry_the_influence(found: SimilarityStats) -> None:
    strips = draw_redundancy(found, "mean", without_first=True).data[1]
    expected = [found.influence[unit][:, 1:].mean(axis=(0, 1)) for unit in UNITS]
    np.testing.assert_allclose(strips.customdata, expected)
    np.testing.assert_allclose(10**strips.z, expected)


def test_the_most_redundant_is_the_brightest() -> None:
    colours = shade(np.array([0.5, 0.001, 0.05]))
    brightness = [sum(map(int, colour[4:-1].split(", "))) for colour in colours]
    assert brightness[1] > brightness[2] > brightness[0]


@pytest.mark.parametrize("values", [[-0.9, -0.5, -0.1], [-0.01, 0.0, 4.0], [1e3, 2e3, 1e6], [0.0, 1.0, 2.0]])
def test_every_step_up_is_darker(values: list[float]) -> None:
    brightness = [sum(map(int, colour[4:-1].split(", "))) for colour in shade(np.array(values)) if colour]
    assert brightness == sorted(brightness, reverse=True)
    assert len(set(brightness)) == 3


def test_what_is_not_measured_has_no_colour() -> None:
    one, none, other = shade(np.array([0.5, np.nan, -1.0]))
    assert none is None
    assert one != other
    assert shade(np.array([np.nan])) == [None]
    assert len(set(shade(np.zeros(3)))) == 1


def test_side_by_side_has_one_scale_and_the_difference(found: SimilarityStats) -> None:
    other = make(seed=1)
    left, right, difference = draw_side_by_side([found, other], ["a", "b"], "mean").data
    assert (left.zmin, left.zmax) == (right.zmin, right.zmax)
    assert left.zmax == find_colours(np.concatenate([left.z, right.z])).high
    np.testing.assert_array_equal(difference.z, tabulate(other, "mean") - tabulate(found, "mean"))
    assert len(draw_side_by_side([found, make(3)], ["a", "b"], "mean").data) == 2


def test_strips_have_values_intervals_and_the_other_measures(found: SimilarityStats) -> None:
    read = read_similarity(found)
    shown = [each for each in read if each.measure == "block-influence"]
    figure = draw_strips(shown, [each for each in read if each not in shown], draws=200)
    assert len(figure.data) == 3
    for layer_inputs, each in zip(figure.data, shown, strict=True):
        np.testing.assert_array_equal(layer_inputs.y, each.values)
        low, high = each.intervals(200).T
        np.testing.assert_allclose(np.array(layer_inputs.y) + layer_inputs.error_y.array, high)
        np.testing.assert_allclose(np.array(layer_inputs.y) - layer_inputs.error_y.arrayminus, low)
        assert "Relative L2" in layer_inputs.text[0]
    assert draw_strips([Importance("magnitude", "mlp", np.ones(3))], []).data[0].error_y.array is None


def test_agreement_scatter_and_heads(found: SimilarityStats) -> None:
    read = [each for each in read_similarity(found) if each.unit == "layer"]
    agreement = correlate([each.ranked for each in read])
    matrix = draw_agreement(agreement, [each.measure for each in read], kendall=True).data[0]
    np.testing.assert_array_equal(matrix.z, agreement.kendall)
    points = draw_scatter(read[0], read[1]).data[0]
    np.testing.assert_array_equal(points.x, read[0].values)
    np.testing.assert_array_equal(points.y, read[1].values)
    assert list(points.customdata) == list(range(5))
    assert set(points.text) <= {*"01234", ""}
    heads = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(draw_heads(heads, "entropy").data[0].z, heads.T)


def test_pairs_leave_what_is_unknown_blank() -> None:
    pairs = np.array([[np.nan, 0.5, np.nan], [0.5, np.nan, -2.0], [np.nan, -2.0, np.nan]])
    units = tuple(Mask.of_layers([i]) for i in range(3))
    known = Interactions(units, np.array([0.1, 0.2, 0.3]), pairs, np.isfinite(pairs).astype(int) * 4, 4)
    layer_inputs = draw_pairs(known).data[0]
    np.testing.assert_array_equal(layer_inputs.z, pairs)
    assert layer_inputs.zmin == -layer_inputs.zmax
    assert tuple(layer_inputs.customdata[0, 1]) == (0.1, 0.2, 4)


def test_curves_stand_where_the_shares_say_and_carry_their_masks() -> None:
    curves = [curve_of(10, 12, 30, 50), curve_of(10, 15, 18, 19, seed=1)]
    figure = draw_curves(curves, ["a", "b"], Shares("layers", 4, costs))
    lines = [layer_inputs for layer_inputs in figure.data if layer_inputs.mode == "lines+markers"]
    for line, curve in zip(lines, curves, strict=True):
        np.testing.assert_allclose(line.x, [0, 0.25, 0.5, 0.75])
        np.testing.assert_allclose(line.y, [curve.scores[k].perplexity for k in range(4)])
        assert list(line.customdata) == [str(mask) for mask in curve.plan.masks]
    assert lines[0].line.dash != lines[1].line.dash
    assert lines[0].marker.symbol != lines[1].marker.symbol
    crosses = [layer_inputs for layer_inputs in figure.data if layer_inputs.name and "collapse" in layer_inputs.name]
    assert [(tuple(cross.x), cross.name) for cross in crosses] == [((0.5,), "a: collapse")]
    kl, agreement = draw_divergences(curves[:1], ["a"], Shares("layers", 4, costs)).data
    np.testing.assert_allclose(kl.y, [0, 1, 2, 3])
    np.testing.assert_allclose(agreement.y, [1, 0.9, 0.8, 0.7])


def test_plans_of_one_name_look_alike_and_are_named_once() -> None:
    figure = draw_curves([curve_of(10, 12), curve_of(10, 13)], ["Random", "Random"], Shares("layers", 4, costs))
    lines = [layer_inputs for layer_inputs in figure.data if layer_inputs.mode == "lines+markers"]
    assert lines[0].line == lines[1].line
    assert [line.showlegend for line in lines] == [True, False]


@pytest.mark.parametrize("of", list(AXES))
def test_shares_are_of_what_the_axis_says(of: str) -> None:
    shares = Shares(of, 4, costs)
    assert shares(NONE) == 0
    assert shares(Mask.of_layers([1])) == 0.25
    assert shares(Mask.parse("a1")) == {"layers": 0.125, "parameters": 0.125, "flops": 0.125, "kv": 0.25}[of]


def test_orders_tell_when_each_site_goes() -> None:
    layer_inputs = draw_orders([curve_of(10, 12, 30)], ["a"]).data[0]
    assert [list(row) for row in np.nan_to_num(np.array(layer_inputs.z, float))] == [[1, 2, 0, 0], [1, 2, 0, 0]]
