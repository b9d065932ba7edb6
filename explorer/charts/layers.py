"""[Importance] -> strips over the layers, and measures against each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from explorer.charts.style import COLOURS, DIVERGING, SYMBOLS, UNIT_LABELS, lay_out, mark, tick_step
from explorer.measures import MEASURES, Importance, SimilarityStats
from explorer.numerics import Agreement


def draw_strips(shown: Sequence[Importance], others: Sequence[Importance], draws: int = 1000) -> go.Figure:
    """Draw one measure of layers, attention and MLPs on one layer axis, with 95% intervals.

    Args:
        shown: one measure, of one to three units.
        others: whatever else was measured, told when a layer is pointed at.
        draws: resampled texts behind the intervals.
    """
    n_layers, measure = len(shown[0].values), MEASURES[shown[0].measure]
    figure = make_subplots(rows=len(shown), shared_xaxes=True, vertical_spacing=0.05)
    for row, each in enumerate(shown, 1):
        figure.add_trace(_dots(each, [o for o in others if o.unit == each.unit], draws, row - 1), row, 1)
        figure.update_yaxes(title=UNIT_LABELS[each.unit], type=_axis_type(each.values), row=row, col=1)
    figure.update_xaxes(range=[-0.5, n_layers - 0.5], tickmode="linear", dtick=tick_step(n_layers), zeroline=False)
    figure.update_xaxes(title="Layer", row=len(shown), col=1)
    unit = f", {measure.unit_of}" if measure.unit_of else ""
    which = {"low": "; low is redundant", "high": "; high is redundant"}.get(measure.redundant or "", "")
    figure.add_annotation(
        text=f"{measure.label}{unit}{which}", x=0, y=1.02, xref="paper", yref="paper", xanchor="left",
        yanchor="bottom", showarrow=False,
    )  # fmt: skip
    return lay_out(figure, 160 * len(shown) + 80).update_layout(showlegend=False, margin={"t": 30})


def _axis_type(values: Float[np.ndarray, " layers"]) -> str:
    return "log" if values.min() > 0 and values.max() > 30 * values.min() else "linear"


def _dots(each: Importance, others: Sequence[Importance], draws: int, number: int) -> go.Scatter:
    intervals = each.intervals(draws)
    error = None
    if intervals is not None:
        error = {
            "type": "data",
            "symmetric": False,
            "array": intervals[:, 1] - each.values,
            "arrayminus": each.values - intervals[:, 0],
            "thickness": 1,
            "width": 0,
        }
    notes = [
        "<br>".join(f"{MEASURES[o.measure].label}: {o.values[layer]:.4g}" for o in [each, *others])
        for layer in range(len(each.values))
    ]
    return go.Scatter(
        x=np.arange(len(each.values)),
        y=each.values,
        error_y=error,
        mode="markers",
        marker={"color": COLOURS[number], "symbol": SYMBOLS[number], "size": 7},
        text=notes,
        hovertemplate=f"{UNIT_LABELS[each.unit]} %{{x}}<br>%{{text}}<extra></extra>",
        name=UNIT_LABELS[each.unit],
    )


def draw_norms(found: SimilarityStats) -> go.Figure:
    """Draw the mean norm of the residual stream at every boundary, with and without the first token."""
    figure = go.Figure()
    for number, (name, without_first) in enumerate((("all tokens", False), ("without the first", True))):
        norms = found.residual_norms(without_first)
        hover = f"before layer %{{x}}, {name}<br>%{{y:.4g}}<extra></extra>"
        figure.add_scatter(x=np.arange(len(norms)), y=norms, name=name, hovertemplate=hover, **mark(number))
    figure.update_xaxes(title="Boundary", dtick=tick_step(found.n_layers), zeroline=False)
    figure.update_yaxes(title="Residual norm", rangemode="tozero")
    return lay_out(figure, 300)


def draw_heads(values: Float[np.ndarray, "layers heads"], title: str) -> go.Figure:
    """Draw a number of every attention head, heads (rows) over layers."""
    n_layers, n_heads = values.shape
    figure = go.Figure(
        go.Heatmap(
            z=values.T,
            x=np.arange(n_layers),
            y=np.arange(n_heads),
            colorscale="cividis",
            hovertemplate="layer %{x}, head %{y}<br>%{z:.3f}<extra></extra>",
            colorbar={"title": {"text": title}},
        )
    )
    figure.update_xaxes(title="Layer", dtick=tick_step(n_layers), showgrid=False, zeroline=False)
    figure.update_yaxes(title="Head", dtick=tick_step(n_heads), autorange="reversed", showgrid=False)
    return lay_out(figure, 140 + 18 * n_heads)


def draw_agreement(agreement: Agreement, names: Sequence[str], kendall: bool = False) -> go.Figure:
    """Draw rank correlations of rankings as a matrix with its numbers."""
    values = agreement.kendall if kendall else agreement.spearman
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=list(names),
            y=list(names),
            zmin=-1,
            zmax=1,
            colorscale=DIVERGING,
            texttemplate="%{z:.2f}",
            hovertemplate="%{y}<br>%{x}<br>%{z:.3f}<extra></extra>",
            colorbar={"title": {"text": "Kendall's τ" if kendall else "Spearman's ρ"}},
        )
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(automargin=True)
    return lay_out(figure, 160 + 36 * len(names))


def draw_scatter(across: Importance, up: Importance) -> go.Figure:
    """Draw one measure of every layer against another, each point with its layer's number."""
    figure = go.Figure(
        go.Scatter(
            x=across.values,
            y=up.values,
            mode="markers+text",
            text=[str(layer) for layer in range(len(across.values))],
            textposition="top center",
            marker={"color": COLOURS[0], "size": 7},
            hovertemplate="layer %{text}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        )
    )
    figure.update_xaxes(title=_title(across), type=_axis_type(across.values))
    figure.update_yaxes(title=_title(up), type=_axis_type(up.values))
    return lay_out(figure, 460)


def _title(each: Importance) -> str:
    return f"{MEASURES[each.measure].label}, {UNIT_LABELS[each.unit].lower() if each.unit != 'mlp' else 'MLP'}"
