"""[Point] -> depth against width at equal size: perplexity against bytes or multiplications, and the front."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from explorer.charts.front import draw_front
from explorer.charts.ranges import MOST, clip_to_axis, fit_log_axis
from explorer.charts.style import lay_out, mark
from explorer.deltas import write_modifiers
from explorer.plans import Point
from explorer.sparsity import METHODS

#: What points can be drawn against.
SIZES: dict[str, tuple[str, Callable[[Point], float]]] = {
    "bytes": ("Bytes of the weights", lambda point: point.bytes),
    "multiplications": ("Multiplications per token", lambda point: point.multiplications),
}

_KINDS = ("pruned", "recovered or healed", "zeros inside", "fewer bits", "not measured")


def draw_points(points: Sequence[Point], of: str) -> go.Figure:
    """Draw variants by size, those that were measured with their front, the others at the best perplexity.

    Every point carries its mask and its modifiers. Hollow at the upper edge is a perplexity beyond the axis.

    Args:
        points: the variants.
        of: a name in `SIZES`.
    """
    title, size = SIZES[of]
    known = [(point, point.perplexity) for point in points if point.perplexity is not None]
    best, most = min((value for _, value in known), default=1.0), max(point.bits for point in points)
    axis = fit_log_axis([best, *(value for _, value in known)], MOST)
    figure = go.Figure()
    for number, kind in enumerate(_KINDS):
        if chosen := [point for point in points if _find_kind(point, most) == kind]:
            chosen.sort(key=lambda point: point.perplexity or best)  # the first is what the legend shows
            style = mark(number)["marker"]
            values = [best if point.perplexity is None else point.perplexity for point in chosen]
            shown = clip_to_axis(values, style["symbol"], axis)
            told = "not measured" if kind == "not measured" else "%{hovertext}"
            figure.add_scatter(
                x=[size(point) for point in chosen], mode="markers", name=kind, text=list(map(str, chosen)),
                customdata=[[str(point.mask), write_modifiers(point.modifiers)] for point in chosen],
                hovertemplate="%{text}<br>" + told + ", %{x:.4s}<extra></extra>",
                **{**shown, "marker": {**style, "size": 9, **shown["marker"]}},
            )  # fmt: skip
    heights = clip_to_axis([value for _, value in known], "circle", axis)["y"]
    draw_front(figure, [size(each) for each, _ in known], heights, [str(each) for each, _ in known])
    figure.update_xaxes(title_text=title, exponentformat="SI", rangemode="tozero", ticksuffix="B" * (of == "bytes"))
    figure.update_yaxes(title_text="Held-out perplexity", **axis)
    return lay_out(figure, 460)


def _find_kind(point: Point, most: float) -> str:
    if point.perplexity is None:
        return "not measured"
    if point.bits < most:
        return "fewer bits"
    if any(spec.name in METHODS for spec in point.modifiers):
        return "zeros inside"
    return "recovered or healed" if point.modifiers else "pruned"
