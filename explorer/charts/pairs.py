"""Interactions -> a map of pairs."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from explorer.charts.ranges import ColourRange, make_colour_bar
from explorer.charts.style import DIVERGING, lay_out, tick_step
from explorer.measures import Interactions


def draw_pairs(found: Interactions) -> go.Figure:
    """Draw what each pair costs beyond what its two units cost alone; what is not known yet stays blank.

    The colours end at the 98th percentile of the sizes: the first layers' pairs would hide all others. The bar tells
    where there are values beyond.
    """
    names = [str(unit) for unit in found.units]
    known = np.abs(found.pairs[np.isfinite(found.pairs)])
    limit = float(np.quantile(known, 0.98)) if known.size else 1.0
    beyond = ColourRange(-limit, limit, bool((found.pairs < -limit).any()), bool((found.pairs > limit).any()))
    alone = np.broadcast_to(found.leave_one_out, found.pairs.shape)
    figure = go.Figure(
        go.Heatmap(
            z=found.pairs,
            x=names,
            y=names,
            customdata=np.stack([alone.T, alone, found.windows], axis=-1),
            zmin=-limit,
            zmax=limit,
            colorscale=DIVERGING,
            hoverongaps=False,
            hovertemplate="%{y} and %{x}<br>%{z:+.4f} nats a token beyond %{customdata[0]:.4f} and %{customdata[1]:.4f}"
            f"<br>on %{{customdata[2]}} of {found.n_windows} windows<extra></extra>",
            colorbar={"title": {"text": "Nats a token beyond<br>the sum of both"}, **make_colour_bar(beyond)},
        )
    )
    step = tick_step(len(names))
    figure.update_xaxes(type="category", dtick=step, showgrid=False)
    figure.update_yaxes(type="category", dtick=step, autorange="reversed", showgrid=False, scaleanchor="x")
    return lay_out(figure, 620)
