"""Redundancy -> the triangle: angular distance over start layer and block size, block influence under it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64
from plotly.subplots import make_subplots

from explorer.charts.style import DIVERGING, SCALE, UNIT_LABELS, lay_out, tick_step
from explorer.measures import SimilarityStats, find_intervals

TOKEN_LABELS = {
    "last_token": "Last token",
    "mean": "Mean over tokens",
    "mean_without_first": "Mean without the first token",
}


def draw_redundancy(
    found: SimilarityStats, token: str, without_first: bool = False, rescaled: bool = False
) -> go.Figure:
    """Draw angular distance over start layer and block size, and block influence under it on the same layer axis.

    Every cell of the triangle can be clicked: its point carries (start, size). The best start of each size is
    outlined.

    Args:
        found: what was measured.
        token: `last_token`, `mean` or `mean_without_first`, for the angular distance.
        without_first: leave the first token of each window out of the block influence.
        rescaled: stretch each row of the triangle from 0 to 1, as Gromov et al. draw it.
    """
    n = found.n_layers
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.8, 0.2], vertical_spacing=0.04)
    values = tabulate(found, token)
    figure.add_trace(_heat(values, rescaled), 1, 1)
    figure.add_trace(_strips(found, without_first), 2, 1)
    figure.add_trace(_outlines(values), 1, 1)
    figure.add_trace(_targets(values, find_intervals(found, token)), 1, 1)
    step = tick_step(n)
    figure.update_xaxes(range=[-0.5, n - 0.5], tickmode="linear", dtick=step, showgrid=False, zeroline=False)
    figure.update_xaxes(title="Layer (for blocks: the first one)", row=2, col=1)
    figure.update_yaxes(
        title="Block size", range=[n + 0.5, 0.5], tickmode="linear", tick0=1, dtick=step, showgrid=False, row=1, col=1
    )
    figure.update_yaxes(showgrid=False, autorange="reversed", row=2, col=1)
    return lay_out(figure, 640).update_layout(showlegend=False)


def draw_side_by_side(found: Sequence[SimilarityStats], names: Sequence[str], token: str) -> go.Figure:
    """Draw two triangles with one colour scale and, if they are of one size, the second less the first."""
    tables = [tabulate(each, token) for each in found]
    comparable = tables[0].shape == tables[1].shape
    titles = [*names, "second less first"] if comparable else list(names)
    figure = make_subplots(1, len(titles), subplot_titles=titles, horizontal_spacing=0.06)
    high = max(float(np.nanmax(table)) for table in tables)
    upper, lower = ({"x": 1.02, "len": 0.45, "y": y, "yanchor": anchor} for y, anchor in ((1, "top"), (0, "bottom")))
    for column, table in enumerate(tables, 1):
        layer_inputs = _heat(table, False)
        layer_inputs.update(zmin=0, zmax=high, showscale=column == 2, colorbar=upper)
        figure.add_trace(layer_inputs, 1, column)
    if comparable:
        layer_inputs = _heat(tables[1] - tables[0], False)
        layer_inputs.update(colorscale=DIVERGING, zmid=0, colorbar={"title": {"text": "Difference"}, **lower})
        figure.add_trace(layer_inputs, 1, 3)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_yaxes(title="Block size", col=1)
    figure.update_xaxes(title="Start layer", showgrid=False, zeroline=False)
    return lay_out(figure, 420).update_layout(margin={"t": 30})


def tabulate(found: SimilarityStats, token: str) -> Float64[np.ndarray, "layers layers"]:
    """Angular distance by block size - 1 and start layer, NaN beyond the triangle."""
    values = np.full((found.n_layers, found.n_layers), np.nan)
    for size, row in enumerate(found.angular_distance(token), 1):
        values[size - 1, : len(row)] = row
    return values


def _heat(values: Float64[np.ndarray, "layers layers"], rescaled: bool) -> go.Heatmap:
    n = len(values)
    shown, title = values, "Angular distance<br>lower is more redundant"
    if rescaled:
        low = np.nanmin(values, axis=1, keepdims=True)
        spread = np.nanmax(values, axis=1, keepdims=True) - low
        shown = np.where(spread > 0, (values - low) / np.where(spread > 0, spread, 1), values - low)
        title = "Angular distance,<br>each row from 0 to 1"
    return go.Heatmap(
        z=shown,
        x=np.arange(n),
        y=np.arange(1, n + 1),
        customdata=values,
        colorscale=SCALE,
        hovertemplate="layers %{x} and on, %{y} in all<br>angular distance %{customdata:.4f}<extra></extra>",
        hoverongaps=False,
        colorbar={"title": {"text": title}, "len": 0.75, "y": 1, "yanchor": "top"},
    )


def _outlines(values: Float64[np.ndarray, "layers layers"]) -> go.Scatter:
    """The best start of every block size."""
    starts = np.nanargmin(values, axis=1)
    size = _marker_size(len(values))
    return go.Scatter(
        x=starts,
        y=np.arange(1, len(values) + 1),
        mode="markers",
        marker={"symbol": "square-open", "size": size, "color": "#D55E00", "line": {"width": 1.5}},
        unselected={"marker": {"opacity": 1}},  # a click selects a target, and must not dim these
        hoverinfo="skip",
        name="best start",
    )


def _targets(
    values: Float64[np.ndarray, "layers layers"], intervals: Float64[np.ndarray, "boundaries boundaries 2"] | None
) -> go.Scatter:
    """Invisible points to click on, for clicks on a heatmap are not told; each carries (start, size, distance)."""
    rows, columns = np.nonzero(~np.isnan(values))
    ends = [""] * len(rows)
    if intervals is not None:
        low, high = intervals[columns, columns + rows + 1].T
        ends = [f" [{a:.4f}, {b:.4f}]" for a, b in zip(low, high, strict=True)]
    return go.Scatter(
        x=columns,
        y=rows + 1,
        mode="markers",
        customdata=np.stack([columns, rows + 1, values[rows, columns]], axis=1),
        marker={"symbol": "square", "size": _marker_size(len(values)), "opacity": 0, "color": "#D55E00"},
        selected={"marker": {"opacity": 0.6}},
        unselected={"marker": {"opacity": 0}},
        text=ends,
        hovertemplate="layers %{x} and on, %{y} in all<br>angular distance %{customdata[2]:.4f}%{text}"
        "<br>click to remove the block<extra></extra>",
        name="block",
    )


def _marker_size(n_layers: int) -> float:
    """No larger than a cell of a triangle 480 pixels high."""
    return max(3.0, min(24.0, 480 / n_layers - 1))


def _strips(found: SimilarityStats, without_first: bool) -> go.Heatmap:
    values = np.stack([found.block_influence(unit, without_first) for unit in UNIT_LABELS])
    shown = np.log10(np.maximum(values, 1e-6))
    ticks = [t for t in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0) if shown.min() - 0.5 <= np.log10(t) <= shown.max() + 0.5]
    return go.Heatmap(
        z=shown,
        x=np.arange(found.n_layers),
        y=list(UNIT_LABELS.values()),
        customdata=values,
        colorscale=SCALE,
        hovertemplate="%{y} %{x}<br>block influence %{customdata:.4f}<extra></extra>",
        xgap=1,
        ygap=1,
        colorbar={
            "title": {"text": "Block influence"},
            "tickvals": np.log10(ticks),
            "ticktext": [f"{t:g}" for t in ticks],
            "len": 0.25,
            "y": 0,
            "yanchor": "bottom",
        },
    )
