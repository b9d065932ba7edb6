"""[Abilities] -> accuracy on tasks against what is removed."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.benchmarks import Evaluation
from explorer.charts.curves import AXES, Shares
from explorer.charts.style import WHISKERS, lay_out, mark
from explorer.plans import Abilities

_ACROSS = 4  # tasks beside each other
_HEIGHT = 260  # pixels of a row of them


def draw_abilities(found: Sequence[Abilities], names: Sequence[str], shares: Shares) -> go.Figure:
    """Draw each task's first metric against what is removed, a line a plan, with 95% intervals and the line of chance.

    Every point carries its mask.

    Args:
        found: plans and what is known of them; all of the same tasks.
        names: of the plans.
        shares: the axis.
    """
    tasks = found[0].evaluations
    rows = -(-len(tasks) // _ACROSS)
    figure = make_subplots(
        rows, min(_ACROSS, len(tasks)), subplot_titles=[each.task for each in tasks], shared_xaxes=True
    )
    for number, (abilities, name) in enumerate(zip(found, names, strict=True)):
        for place, evaluation in enumerate(abilities.evaluations):
            where = {"row": 1 + place // _ACROSS, "col": 1 + place % _ACROSS}
            line = _make_line(abilities, evaluation, shares)
            figure.add_scatter(
                **line, mode="lines+markers", name=name, legendgroup=name, showlegend=place == 0,
                hovertemplate=f"{name}<br>%{{customdata}}<br>%{{y:.3f}}, %{{x:.1%}} removed<extra></extra>",
                **where, **mark(number),
            )  # fmt: skip
    for place, evaluation in enumerate(tasks):
        if evaluation.chance is not None:
            figure.add_hline(
                y=evaluation.chance, line={"dash": "dot", "width": 1, "color": "gray"},
                row=1 + place // _ACROSS, col=1 + place % _ACROSS,
            )  # fmt: skip
    figure.update_xaxes(tickformat=".0%")
    figure.update_xaxes(title=AXES[shares.of], row=rows)
    return lay_out(figure, _HEIGHT * rows + 80).update_layout(hovermode="closest", margin={"t": 60})


def find_metric(evaluation: Evaluation) -> str:
    """Return the metric by which a task is drawn: its first."""
    return next(iter(evaluation.aggregates))


def _make_line(abilities: Abilities, evaluation: Evaluation, shares: Shares) -> dict:
    """Return a line's points with their intervals."""
    metric, masks = find_metric(evaluation), [abilities.curve.plan.at(step) for step in abilities.steps]
    measured = [evaluation.measure(metric, abilities.find(evaluation, step)) for step in abilities.steps]
    ends = [each.interval or (each.value, each.value) for each in measured]
    return {
        "x": [shares(mask) for mask in masks],
        "y": [each.value for each in measured],
        "customdata": [str(mask) for mask in masks],
        "error_y": {
            **WHISKERS,
            "array": [high - each.value for each, (_, high) in zip(measured, ends, strict=True)],
            "arrayminus": [each.value - low for each, (low, _) in zip(measured, ends, strict=True)],
        },
    }
