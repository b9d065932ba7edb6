"""What was tried as figures: every dot with its interval, its star and its variant; the front by brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from explorer.charts.history import COSTS, draw_beside, draw_history
from explorer.deltas.modifier_spec import read_modifiers, write_modifiers
from explorer.evaluation.scores import Score
from explorer.masks.mask import NONE, Mask
from explorer.model.cost_model import Costs
from explorer.plans.points import Point


def make_point(mask: str, nats: tuple[float, float], costs: tuple[int, int, int, int], modify: str = "") -> Point:
    score = Score(Mask.parse(mask), np.array(nats) * 10, np.array([20.0, 20.0]), 10, np.array([40, 40]))
    point = Point(score.mask, read_modifiers(modify), 16, 1.0, 1.0, score.perplexity)
    return replace(point, score=score, costs=Costs(*costs))


@pytest.fixture(scope="module")
def points() -> list[Point]:
    draw = np.random.default_rng(3)
    return [
        make_point(str(layer), (nats, nats + 0.1), tuple(draw.integers(1, 9, 4).tolist()), "refit" if layer % 3 else "")
        for layer, nats in enumerate(draw.integers(10, 30, 25) / 10)
    ]  # fmt: skip


@pytest.mark.parametrize("of", COSTS)
def test_the_front_is_what_none_beats_in_both(points: list[Point], of: str) -> None:
    figure, cost = draw_history(points, ["name"] * len(points), {1, 2}, of), COSTS[of][1]
    places = [(cost(each.costs), each.perplexity) for each in points if each.costs and each.perplexity]
    kept = {one for one in places if not any(o != one and o[0] <= one[0] and o[1] <= one[1] for o in places)}
    (front,) = [trace for trace in figure.data if trace.name == "front"]
    assert list(zip(front.x, front.y, strict=True)) == sorted(kept)
    assert figure.layout.xaxis.title.text == COSTS[of][0]


def test_the_ends_of_the_front_are_named(points: list[Point]) -> None:
    figure = draw_history(points, [f"<{'long ' * 9}{place}>" for place in range(len(points))], {4}, "bytes")
    (front,) = [trace for trace in figure.data if trace.name == "front"]
    ends = [(note.x, 10**note.y) for note in figure.layout.annotations]
    assert ends == [pytest.approx((front.x[place], front.y[place])) for place in (0, -1)]
    for note in figure.layout.annotations:
        assert note.text == f"&lt;{('long ' * 9)[:26]}…"


def test_every_dot_has_its_interval_and_carries_its_variant(points: list[Point]) -> None:
    figure = draw_history(points, [f"<{place}>" for place in range(len(points))], {4}, "parameters")
    traces = {trace.name: trace for trace in figure.data}
    assert traces["starred"].text == ("<4>",)
    assert len(traces["measured"].x) == len(points) - 1
    for trace in (traces["measured"], traces["starred"]):
        for name, carried, y, up, down in zip(
            trace.text, trace.customdata, trace.y, trace.error_y.array, trace.error_y.arrayminus, strict=True
        ):
            point = points[int(name.strip("<>"))]
            assert list(carried) == [str(point.mask), write_modifiers(point.modifiers)]
            assert point.score is not None
            assert (y - down, y + up) == pytest.approx(point.score.perplexity_ci95)


def test_variants_are_drawn_one_under_the_other(points: list[Point]) -> None:
    whole = make_point("none", (1.0, 1.0), (9, 9, 9, 9))
    figure = draw_beside([whole, *points[:3]], ["Unpruned", "a", "b", "c" * 60])
    assert list(figure.data[0].x) == [whole.perplexity, *(each.perplexity for each in points[:3])]
    assert figure.layout.yaxis.ticktext == ("Unpruned", "a", "b", "c" * 39 + "…")
    assert figure.layout.yaxis.autorange == "reversed"
    assert whole.mask == NONE
    assert {"5", "10"} <= set(figure.layout.xaxis.ticktext)


def test_what_lies_beyond_the_axis_is_hollow_at_its_edge_and_ticks_stay_few(points: list[Point]) -> None:
    beyond = make_point("0-9", (60.0, 61.0), (1, 1, 1, 1))
    figure = draw_history([*points, beyond], ["name"] * 26, set(), "bytes")
    (dots,) = [trace for trace in figure.data if trace.name == "measured"]
    low, high = (10**end for end in figure.layout.yaxis.range)
    assert low < min(dots.y) < max(dots.y) == dots.y[-1] == pytest.approx(high)
    assert (dots.marker.symbol[0], dots.marker.symbol[-1]) == ("circle", "circle-open")
    assert dots.hovertext[-1].startswith("beyond the axis: perplexity ")
    assert dots.error_y.array[-1] == 0
    assert len(figure.layout.yaxis.tickvals) <= 8
