"""Choices -> how far texts, objectives and searches agree on what goes first, and what that depends on."""

from __future__ import annotations

import plotly.graph_objects as go

from explorer.charts.style import COLOURS, SCALE, WHISKERS, lay_out
from explorer.plans import Choices


def draw_choices(found: Choices) -> go.Figure:
    """Draw the share of the removed units that every two choices have in common, as a matrix."""
    names = [", ".join(each[:3]) for each in found.cells]
    figure = go.Figure(
        go.Heatmap(
            z=found.agreement,
            x=names,
            y=names,
            zmin=0,
            zmax=1,
            colorscale=SCALE,
            hovertemplate="%{y}<br>%{x}<br>%{z:.0%} in common<extra></extra>",
            colorbar={"title": {"text": "In common"}, "tickformat": ".0%"},
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(automargin=True)
    return lay_out(figure, 240 + 18 * len(names))


def draw_variance(found: Choices) -> go.Figure:
    """Draw the share of the variance that text, objective and search explain, with 95% intervals."""
    shares = list(found.variance.values())
    ends = [each.interval or (each.share, each.share) for each in shares]
    figure = go.Figure(
        go.Scatter(
            x=[each.share for each in shares],
            y=[name.capitalize() for name in found.variance],
            mode="markers",
            marker={"color": COLOURS[0], "size": 7},
            cliponaxis=False,
            error_x={
                **WHISKERS,
                "array": [high - each.share for each, (_, high) in zip(shares, ends, strict=True)],
                "arrayminus": [each.share - low for each, (low, _) in zip(shares, ends, strict=True)],
            },
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(title="Share of the variance of what is removed", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(autorange="reversed")
    return lay_out(figure, 220)
