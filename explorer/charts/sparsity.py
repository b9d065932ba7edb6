"""Zeros inside the blocks -> errors of their outputs, where a matrix is zero, how its scores lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.charts.ranges import fit_log_axis
from explorer.charts.style import COLOURS, SCALE, lay_out, mark, tick_step
from explorer.charts.training import Points
from explorer.sparsity import LayerErrors, ScoreCounts, ZerosPicture

_CELLS = 256  # of the picture of a whole matrix, in each direction
_ENTRIES = 64  # of its cutting
_HEIGHT = 440


def draw_errors(
    errors: Sequence[LayerErrors], n_layers: int, perplexities: Points, unpruned: float | None
) -> go.Figure:
    """Draw the errors of layers on the layer axis, and below it perplexities, if there are any.

    Args:
        errors: of the layers that are pruned.
        n_layers: L.
        perplexities: (last layer that is pruned, perplexity) pairs.
        unpruned: perplexity of the whole model, if any is known.
    """
    rows = 2 if perplexities else 1
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    layers = [each.layer for each in errors]
    ways: dict[str, list[float | None]] = {
        "zeros alone": [each.zeroed for each in errors],
        "survivors adapted": [each.adapted for each in errors],
    }
    for number, (name, values) in enumerate(ways.items()):
        if any(value is not None for value in values):
            figure.add_scatter(x=layers, y=values, name=name, mode="lines+markers", row=1, col=1, **mark(number))
    if perplexities:
        figure.add_scatter(
            x=[layer for layer, _ in perplexities], y=[value for _, value in perplexities],
            name="perplexity so far", mode="lines+markers", row=2, col=1, **mark(len(ways)),
        )  # fmt: skip
        figure.add_scatter(
            x=[-0.5, n_layers - 0.5], y=[unpruned] * 2, name="whole", mode="lines",
            line={"dash": "dot", "width": 1, "color": "gray"}, row=2, col=1,
        )  # fmt: skip
        shown = [*(value for _, value in perplexities), unpruned]
        figure.update_yaxes(title_text="Held-out perplexity", row=2, col=1, **fit_log_axis(shown))
    figure.update_xaxes(range=[-0.5, n_layers - 0.5], dtick=tick_step(n_layers))
    figure.update_xaxes(title_text="Layer", row=rows, col=1)
    figure.update_yaxes(title_text="Relative error of its output", rangemode="tozero", row=1, col=1)
    return lay_out(figure, 260 * rows + 60)


def draw_zeros(picture: ZerosPicture, row: int, column: int) -> go.Figure:
    """Draw the share of zeros in each cell of a matrix, and beside it the entries from one on, each by itself.

    Args:
        picture: of the matrix.
        row, column: first entry of the cutting.
    """
    down, across = picture.size_cell(_CELLS)
    shares, entries = picture.find_shares(_CELLS), picture.cut(row, column, _ENTRIES)
    first = np.arange(shares.shape[0]) * down, np.arange(shares.shape[1]) * across
    titles = (f"Share of zeros in cells of {down} x {across}", f"Entries from row {row}, column {column}")
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.08)
    figure.add_heatmap(
        x=first[1], y=first[0], z=shares, coloraxis="coloraxis",
        hovertemplate="row %{y}, column %{x}: %{z:.1%} zeros<extra></extra>", row=1, col=1,
    )  # fmt: skip
    figure.add_heatmap(
        x=column + np.arange(entries.shape[1]), y=row + np.arange(entries.shape[0]), z=entries.astype(float),
        coloraxis="coloraxis", xgap=1, ygap=1, hovertemplate="row %{y}, column %{x}<extra></extra>", row=1, col=2,
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", title_text="Output")
    figure.update_xaxes(title_text="Input")
    figure.update_layout(coloraxis={"colorscale": SCALE, "cmin": 0, "cmax": 1, "reversescale": True})
    return lay_out(figure, _HEIGHT).update_layout(margin={"t": 60})


def draw_scores(counts: ScoreCounts) -> go.Figure:
    """Draw how many entries of a matrix have which score, those that stay over those that become zero, and the cut."""
    middle, width = (counts.ends[1:] + counts.ends[:-1]) / 2, np.diff(counts.ends)
    figure = go.Figure()
    for name, values, colour in (("zeroed", counts.zeroed, COLOURS[1]), ("kept", counts.kept, COLOURS[0])):
        figure.add_bar(x=middle, y=values, width=width, name=name, marker={"color": colour, "line": {"width": 0}})
    if counts.cut > 0:
        figure.add_vline(math.log10(counts.cut), line_dash="dash", annotation_text="one cut for all")
    figure.update_xaxes(title_text="log10 of the score")
    figure.update_yaxes(title_text="Entries")
    return lay_out(figure, 320).update_layout(barmode="stack", bargap=0)
