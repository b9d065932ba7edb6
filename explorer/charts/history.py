"""[Point] -> what was tried: perplexity with its interval against a cost, and variants one beside the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import plotly.graph_objects as go

from explorer.charts.front import draw_front
from explorer.charts.ranges import MOST, clip_to_axis, fit_log_axis
from explorer.charts.style import COLOURS, WHISKERS, lay_out
from explorer.deltas import write_modifiers
from explorer.model import Costs
from explorer.plans import Point

#: What was tried can be drawn against.
COSTS: dict[str, tuple[str, Callable[[Costs], float]]] = {
    "parameters": ("Parameters", lambda costs: costs.parameters),
    "bytes": ("Bytes of the weights", lambda costs: costs.bytes),
    "kv_bytes": ("KV cache bytes per token", lambda costs: costs.kv_bytes_per_token),
    "flops": ("FLOPs per token", lambda costs: costs.flops_per_token),
}


def draw_history(points: Sequence[Point], names: Sequence[str], starred: Collection[int], of: str) -> go.Figure:
    """Draw measured variants with their intervals against a cost, and the front.

    Every point carries its mask and its modifiers. Hollow at the upper edge is a perplexity beyond the axis.

    Args:
        points: variants with costs and a score.
        names: what each is called.
        starred: the places of those that are starred.
        of: a name in `COSTS`.
    """
    title, cost = COSTS[of]
    sizes = [cost(point.costs) for point in points if point.costs is not None]
    values = [point.perplexity for point in points if point.perplexity is not None]
    figure = go.Figure()
    axis = fit_log_axis(_list_ends(points), MOST)
    draw_front(figure, sizes, clip_to_axis(values, "circle", axis)["y"], names)
    for number, (name, symbol, size) in enumerate((("measured", "circle", 8), ("starred", "star", 13))):
        places = [place for place in range(len(points)) if (place in starred) == bool(number)]
        places.sort(key=values.__getitem__)  # the first is what the legend shows, and lies within the axis
        if places:
            shown = clip_to_axis([values[place] for place in places], symbol, axis)
            figure.add_scatter(
                x=[sizes[place] for place in places], mode="markers", name=name,
                text=[names[place] for place in places],
                customdata=[[str(points[place].mask), write_modifiers(points[place].modifiers)] for place in places],
                hovertemplate="%{text}<br>%{hovertext}, %{x:.4s}<extra></extra>",
                error_y=_find_errors([points[place] for place in places], 10 ** axis["range"][1]),
                **{**shown, "marker": {"size": size, "color": COLOURS[number], **shown["marker"]}},
            )  # fmt: skip
    figure.update_xaxes(title_text=title, exponentformat="SI", ticksuffix="B" * ("bytes" in of))
    figure.update_yaxes(title_text="Held-out perplexity", **axis)
    return lay_out(figure, 420)


def draw_beside(points: Sequence[Point], names: Sequence[str]) -> go.Figure:
    """Draw variants one under the other, each a dot at its perplexity with its interval; the first is the whole model.

    Args:
        points: variants with a score.
        names: what each is called.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=[point.perplexity for point in points], y=list(range(len(points))), mode="markers", text=list(names),
        hovertemplate="%{text}<br>perplexity %{x:,.2f}<extra></extra>", error_x=_find_errors(points),
        marker={"symbol": "circle", "size": 9, "color": COLOURS[0]}, showlegend=False,
    )  # fmt: skip
    if points and points[0].perplexity is not None:
        figure.add_vline(points[0].perplexity, line={"color": "gray", "width": 1, "dash": "dot"})
    shown = [name if len(name) <= 40 else f"{name[:39]}…" for name in names]
    figure.update_yaxes(tickvals=list(range(len(points))), ticktext=shown, autorange="reversed", automargin=True)
    figure.update_xaxes(title_text="Held-out perplexity", **fit_log_axis(_list_ends(points)))
    return lay_out(figure, 110 + 34 * len(points))


def _list_ends(points: Sequence[Point]) -> list[float | None]:
    """Return the perplexities and the ends of their intervals."""
    return [
        end for point in points for end in (point.perplexity, *((point.score and point.score.perplexity_ci95) or ()))
    ]


def _find_errors(points: Sequence[Point], edge: float = math.inf) -> dict:
    """Return the ends of intervals as distances; none where there is no interval, or the value lies beyond the edge."""
    above, below = [], []
    for point in points:
        interval = point.score.perplexity_ci95 if point.score is not None else None
        value = point.perplexity or 0.0
        low, high = interval if interval and value <= edge else (value, value)
        above.append(high - value)
        below.append(value - low)
    return {**WHISKERS, "array": above, "arrayminus": below}
