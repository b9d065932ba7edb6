"""Redundancy -> the triangle: angular distance over start layer and block size, block influence under it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64, Shaped
from plotly.subplots import make_subplots

from explorer.charts.ranges import ColourRange, find_colours, make_colour_bar
from explorer.charts.style import DIVERGING, SCALE, UNIT_LABELS, lay_out, tick_step
from explorer.measures import SimilarityStats, find_intervals

TOKEN_LABELS = {
    "last_token": "Last token",
    "mean": "Mean over tokens",
    "mean_without_first": "Mean without the first token",
}

_FEW = 64  # layers whose cells have room between them


def draw_redundancy(
    found: SimilarityStats, token: str, without_first: bool = False, rescaled: bool = False
) -> go.Figure:
    """Draw angular distance over start layer and block size, and block influence under it on the same layer axis.

    Every cell of the triangle can be clicked: its point carries (start, size, distance). The best start of each size
    is outlined. Colours end at percentiles, see `find_colours`; the bars tell where there are values beyond.

    Args:
        found: what was measured.
        token: `last_token`, `mean` or `mean_without_first`, for the angular distance.
        without_first: leave the first token of each window out of the block influence.
        rescaled: stretch each row of the triangle from 0 to 1, as Gromov et al. draw it.
    """
    n = found.n_layers
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.8, 0.2], vertical_spacing=0.04)
    values = tabulate(found, token)
    blocks = _describe_blocks(values, find_intervals(found, token))
    heat = _heat(values, None if rescaled else find_colours(values), rescaled)
    heat.update(text=blocks)
    figure.add_trace(heat, 1, 1)
    figure.add_trace(_strips(found, without_first), 2, 1)
    figure.add_trace(_outlines(values), 1, 1)
    figure.add_trace(_targets(values, blocks), 1, 1)
    step = tick_step(n)
    figure.update_xaxes(range=[-0.5, n - 0.5], tickmode="linear", dtick=step, showgrid=False, zeroline=False)
    figure.update_xaxes(title="Layer (for blocks: the first one)", row=2, col=1)
    figure.update_yaxes(
        title="Block size",
        range=[n + 0.5, 0.5],
        tickmode="linear",
        tick0=step,
        dtick=step,
        showgrid=False,
        row=1,
        col=1,
    )
    figure.update_yaxes(showgrid=False, autorange="reversed", row=2, col=1)
    return lay_out(figure, 640).update_layout(showlegend=False)


def draw_side_by_side(found: Sequence[SimilarityStats], names: Sequence[str], token: str) -> go.Figure:
    """Draw two triangles with one colour scale and, if they are of one size, the second less the first."""
    tables = [tabulate(each, token) for each in found]
    comparable = tables[0].shape == tables[1].shape
    titles = [*names, "second less first"] if comparable else list(names)
    figure = make_subplots(1, len(titles), subplot_titles=titles, horizontal_spacing=0.09)
    colours = find_colours(np.concatenate([table.ravel() for table in tables]))
    upper, lower = ({"x": 1.02, "len": 0.45, "y": y, "yanchor": anchor} for y, anchor in ((1, "top"), (0, "bottom")))
    for column, table in enumerate(tables, 1):
        layer_inputs = _heat(table, colours)
        layer_inputs.update(showscale=column == 2, colorbar=upper, text=_describe_blocks(table, None))
        figure.add_trace(layer_inputs, 1, column)
    if comparable:
        difference = tables[1] - tables[0]
        sizes = find_colours(np.abs(difference))
        both = ColourRange(-sizes.high, sizes.high, bool((difference < -sizes.high).any()), sizes.above)
        layer_inputs = _heat(difference, both)
        layer_inputs.update(colorscale=DIVERGING, colorbar={"title": {"text": "Difference"}, **lower})
        layer_inputs.update(text=_describe_blocks(difference, None, "difference", "+.4f"))
        figure.add_trace(layer_inputs, 1, 3)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_yaxes(title="Block size", col=1)
    figure.update_xaxes(title="Start layer", showgrid=False, zeroline=False)
    return lay_out(figure, 420).update_layout(margin={"t": 60})


def tabulate(found: SimilarityStats, token: str) -> Float64[np.ndarray, "layers layers"]:
    """Angular distance by block size - 1 and start layer, NaN beyond the triangle."""
    values = np.full((found.n_layers, found.n_layers), np.nan)
    for size, row in enumerate(found.angular_distance(token), 1):
        values[size - 1, : len(row)] = row
    return values


def _heat(
    values: Float64[np.ndarray, "layers layers"], colours: ColourRange | None, rescaled: bool = False
) -> go.Heatmap:
    n = len(values)
    shown, title = values, "Angular distance<br>lower is more redundant"
    if rescaled:
        low = np.nanmin(values, axis=1, keepdims=True)
        spread = np.nanmax(values, axis=1, keepdims=True) - low
        shown = np.where(spread > 0, (values - low) / np.where(spread > 0, spread, 1), values - low)
        title = "Angular distance,<br>each row from 0 to 1"
    colours = colours or ColourRange(0.0, 1.0)
    return go.Heatmap(
        z=shown,
        zmin=colours.low,
        zmax=colours.high,
        x=np.arange(n),
        y=np.arange(1, n + 1),
        customdata=values,
        colorscale=SCALE,
        hovertemplate="%{text}<extra></extra>",
        hoverongaps=False,
        colorbar={"title": {"text": title}, "len": 0.7, "y": 1, "yanchor": "top", **make_colour_bar(colours)},
    )


def _outlines(values: Float64[np.ndarray, "layers layers"]) -> go.Scatter:
    """The borders of the cell of the best start of every block size, in layers: a line with gaps."""
    x: list[float | None] = []
    y: list[float | None] = []
    for size, row in enumerate(values, 1):
        if np.isfinite(row).any():
            start = int(np.nanargmin(row))
            x += [start - 0.5, start + 0.5, start + 0.5, start - 0.5, start - 0.5, None]
            y += [size - 0.5, size - 0.5, size + 0.5, size + 0.5, size - 0.5, None]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": "#D55E00", "width": 1.5 if len(values) <= _FEW else 1},
        cliponaxis=False,  # the first size's upper border is the axis
        hoverinfo="skip",
        name="best start",
    )


def _describe_blocks(
    values: Float64[np.ndarray, "layers layers"],
    intervals: Float64[np.ndarray, "boundaries boundaries 2"] | None,
    name: str = "angular distance",
    write: str = ".4f",
) -> Shaped[np.ndarray, "layers layers"]:
    """What is said of each block: its layers, its distance with the interval; nothing beyond the triangle."""
    told = np.full(values.shape, "", object)
    for row, start in zip(*np.nonzero(~np.isnan(values)), strict=True):
        last = start + row
        layers = f"layers {start}-{last}" if row else f"layer {start}"
        told[row, start] = f"{layers} ({row + 1})<br>{name} {values[row, start]:{write}}"
        if intervals is not None:
            low, high = intervals[start, last + 1]
            told[row, start] += f" [{low:.4f}, {high:.4f}]"
    return told


def _targets(values: Float64[np.ndarray, "layers layers"], blocks: Shaped[np.ndarray, "layers layers"]) -> go.Scatter:
    """Invisible points to click on, for clicks on a heatmap are not told; each carries (start, size, distance)."""
    rows, columns = np.nonzero(~np.isnan(values))
    return go.Scatter(
        x=columns,
        y=rows + 1,
        mode="markers",
        customdata=np.stack([columns, rows + 1, values[rows, columns]], axis=1),
        marker={"symbol": "square", "size": _marker_size(len(values)), "opacity": 0, "color": "#D55E00"},
        selected={"marker": {"opacity": 0.6}},
        unselected={"marker": {"opacity": 0}},
        text=blocks[rows, columns],
        hovertemplate="%{text}<br>click to remove the block<extra></extra>",
        name="block",
    )


def _marker_size(n_layers: int) -> float:
    """No larger than a cell of a triangle 480 pixels high."""
    return max(3.0, min(24.0, 480 / n_layers - 1))


def _strips(found: SimilarityStats, without_first: bool) -> go.Heatmap:
    values = np.stack([found.block_influence(unit, without_first) for unit in UNIT_LABELS])
    shown = np.log10(np.maximum(values, 1e-6))
    colours = find_colours(shown)
    return go.Heatmap(
        z=shown,
        zmin=colours.low,
        zmax=colours.high,
        x=np.arange(found.n_layers),
        y=list(UNIT_LABELS.values()),
        customdata=values,
        colorscale=SCALE,
        hovertemplate="%{y} %{x}<br>block influence %{customdata:.4f}<extra></extra>",
        xgap=1 if found.n_layers <= _FEW else 0,
        ygap=1,
        colorbar={
            "title": {"text": "Block influence"},
            "len": 0.28,
            "y": 0,
            "yanchor": "bottom",
            **make_colour_bar(colours, log=True, apart=0.2),  # a short bar
        },
    )
