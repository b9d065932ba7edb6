"""Trainings -> their loss step by step, and the held-out perplexity at their checkpoints on one text or several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.charts.ranges import fit_log_axis
from explorer.charts.style import lay_out, mark

#: (step, value) pairs.
Points = Sequence[tuple[int, float]]

_HEIGHT = 260  # pixels of a row


@dataclass(frozen=True)
class TextCurves:
    """Held-out perplexities on one text.

    Args:
        text: its name.
        curves: name of a training -> those at its checkpoints.
        lines: what is compared with, in words -> its own.
    """

    text: str
    curves: Mapping[str, Points]
    lines: Mapping[str, float]


def draw_training(losses: Mapping[str, Points], texts: Sequence[TextCurves]) -> go.Figure:
    """Draw training losses over held-out perplexities, by step; a training has one style in every row.

    Args:
        losses: name of a training -> its losses.
        texts: a row for each.
    """
    rows = 1 + len(texts)
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.12 / rows)
    styles = {name: mark(number) for number, name in enumerate(losses)}
    for row, curves in enumerate((losses, *(each.curves for each in texts)), 1):
        for name, points in curves.items():
            figure.add_scatter(
                x=[step for step, _ in points], y=[value for _, value in points], name=name, legendgroup=name,
                showlegend=row == 1, mode="lines" if row == 1 else "lines+markers", row=row, col=1, **styles[name],
            )  # fmt: skip
    for row, each in enumerate(texts, 2):
        for words, value in each.lines.items():
            figure.add_hline(value, line_dash="dot", row=row, col=1)
            figure.add_annotation(
                x=1, xref="x domain", y=math.log10(value), yref=f"y{row}", text=words, showarrow=False,
                xanchor="right", yanchor="bottom",
            )  # fmt: skip
        title = "Held-out perplexity" + f"<br>{each.text.rpartition('/')[2]}" * (len(texts) > 1)
        shown = [*each.lines.values(), *(value for points in each.curves.values() for _, value in points)]
        figure.update_yaxes(title_text=title, row=row, col=1, **fit_log_axis(shown))
    figure.update_xaxes(title_text="Step", row=rows, col=1)
    figure.update_yaxes(title_text="Training loss, nats", row=1, col=1)
    return lay_out(figure, _HEIGHT * rows)
