"""[Point] -> what was tried: perplexity with its interval against a cost, and variants one beside the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import plotly.graph_objects as go

from explorer.charts.front import draw_front
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

    Every point carries its mask and its modifiers.

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
    draw_front(figure, sizes, values, names)
    for number, (name, symbol, size) in enumerate((("measured", "circle", 8), ("starred", "star", 13))):
        places = [place for place in range(len(points)) if (place in starred) == bool(number)]
        if places:
            figure.add_scatter(
                x=[sizes[place] for place in places], y=[values[place] for place in places],
                mode="markers", name=name, text=[names[place] for place in places],
                customdata=[[str(points[place].mask), write_modifiers(points[place].modifiers)] for place in places],
                hovertemplate="%{text}<br>perplexity %{y:,.2f}, %{x:.4s}<extra></extra>",
                error_y=_find_errors([points[place] for place in places]),
                marker={"symbol": symbol, "size": size, "color": COLOURS[number]},
            )  # fmt: skip
    figure.update_xaxes(title_text=title, exponentformat="SI")
    figure.update_yaxes(title_text="Held-out perplexity", type="log", **_find_ticks(points))
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
    figure.update_xaxes(title_text="Held-out perplexity", type="log", **_find_ticks(points))
    return lay_out(figure, 110 + 34 * len(points))


def _find_ticks(points: Sequence[Point]) -> dict:
    """Return ticks of a log axis that say the whole number: a few within a decade, 1, 2 and 5 over several."""
    ends = [end for point in points if point.score for end in point.score.perplexity_ci95 or (point.perplexity or 1,)]
    low, high = max(min(ends, default=1), 1), min(max(ends, default=10), 1e15)
    steps = (1, 2, 5) if high > 10 * low else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [step * 10**exponent for exponent in exponents for step in steps]
    return {"tickvals": values, "ticktext": [f"{value:,g}" if value < 1e5 else f"{value:.0e}" for value in values]}


def _find_errors(points: Sequence[Point]) -> dict:
    """Return the ends of intervals as distances; none where there is no interval."""
    above, below = [], []
    for point in points:
        interval = point.score.perplexity_ci95 if point.score is not None else None
        value = point.perplexity or 0.0
        low, high = interval or (value, value)
        above.append(high - value)
        below.append(value - low)
    return {**WHISKERS, "array": above, "arrayminus": below}
