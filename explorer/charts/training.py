"""Trainings -> their loss step by step, and the held-out perplexity at their checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.charts.style import lay_out, mark

#: (step, value) pairs.
Points = Sequence[tuple[int, float]]


def draw_training(curves: Mapping[str, tuple[Points, Points]], unpruned: float, pruned: float) -> go.Figure:
    """Draw training losses over held-out perplexities, by step.

    Args:
        curves: name of a training -> its losses and its held-out perplexities.
        unpruned, pruned: perplexities of the whole model, and with the mask alone.
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for number, (name, (losses, perplexities)) in enumerate(curves.items()):
        style = mark(number)
        for row, points in enumerate((losses, perplexities), 1):
            figure.add_scatter(
                x=[step for step, _ in points], y=[value for _, value in points], name=name, legendgroup=name,
                showlegend=row == 1, mode="lines" if row == 1 else "lines+markers", row=row, col=1, **style,
            )  # fmt: skip
    for value, words in ((unpruned, "whole"), (pruned, "pruned")):
        figure.add_hline(value, line_dash="dot", annotation_text=words, row=2, col=1)
    figure.update_xaxes(title_text="Step", row=2, col=1)
    figure.update_yaxes(title_text="Training loss, nats", row=1, col=1)
    figure.update_yaxes(title_text="Held-out perplexity", type="log", row=2, col=1)
    return lay_out(figure, 520)
