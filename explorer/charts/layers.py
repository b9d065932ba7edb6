"""[Importance] -> strips over the layers, and measures against each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from explorer.charts.ranges import fit_log_axis
from explorer.charts.style import COLOURS, DIVERGING, SYMBOLS, UNIT_LABELS, WHISKERS, lay_out, mark, tick_step
from explorer.measures import MEASURES, Importance, SimilarityStats
from explorer.numerics import Agreement

_MOST_LABELS = 8
_LABEL = (0.05, 0.06)  # width and height of a layer's number, as shares of the axes


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
        intervals = each.intervals(draws)
        ends = each.values if intervals is None else np.concatenate([each.values, intervals.ravel()])
        figure.update_yaxes(title=UNIT_LABELS[each.unit], **_fit_axis(each.values, ends), row=row, col=1)
    figure.update_xaxes(range=[-0.5, n_layers - 0.5], tickmode="linear", dtick=tick_step(n_layers), zeroline=False)
    figure.update_xaxes(title="Layer", row=len(shown), col=1)
    unit = f", {measure.unit_of}" if measure.unit_of else ""
    which = {"low": "; low is redundant", "high": "; high is redundant"}.get(measure.redundant or "", "")
    figure.add_annotation(
        text=f"{measure.label}{unit}{which}", x=0, y=1.02, xref="paper", yref="paper", xanchor="left",
        yanchor="bottom", showarrow=False,
    )  # fmt: skip
    return lay_out(figure, 160 * len(shown) + 80).update_layout(showlegend=False, margin={"t": 60})


def _fit_axis(values: Float[np.ndarray, " layers"], ends: Float[np.ndarray, " values"]) -> dict:
    """A log axis for values of more than a decade and a half, with room for the ends of their intervals."""
    known = values[np.isfinite(values)]
    if known.size and known.min() > 0 and known.max() > 30 * known.min():
        return fit_log_axis(ends.tolist())
    return {"type": "linear"}


def _dots(each: Importance, others: Sequence[Importance], draws: int, number: int) -> go.Scatter:
    intervals = each.intervals(draws)
    error, size = None, 5 if len(each.values) <= 64 else 3.5  # pixels; whiskers are wider
    if intervals is not None:
        error = {
            **WHISKERS,
            "array": intervals[:, 1] - each.values,
            "arrayminus": each.values - intervals[:, 0],
            "width": size * 0.8,
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
        marker={"color": COLOURS[number], "symbol": SYMBOLS[number], "size": size},
        text=notes,
        hovertemplate=f"{UNIT_LABELS[each.unit]} %{{x}}<br>%{{text}}<extra></extra>",
        name=UNIT_LABELS[each.unit],
    )


def draw_norms(found: SimilarityStats) -> go.Figure:
    """Draw the mean norm of the residual stream at every boundary, with and without the first token."""
    figure = go.Figure()
    for number, (name, without_first) in enumerate((("all tokens", False), ("without the first token", True))):
        norms = found.residual_norms(without_first)
        hover = f"before layer %{{x}}, {name}<br>%{{y:.4g}}<extra></extra>"
        figure.add_scatter(x=np.arange(len(norms)), y=norms, name=name, hovertemplate=hover, **mark(number))
    figure.update_xaxes(title="Layer boundary", dtick=tick_step(found.n_layers), zeroline=False)
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
    """Draw one measure of every layer against another; the extremes have their layer's number beside them."""
    axes = _fit_axis(across.values, across.values), _fit_axis(up.values, up.values)
    scaled = np.stack(
        [_scale(each.values, axis["type"]) for each, axis in zip((across, up), axes, strict=True)], axis=1
    )
    labelled = _choose_labels(scaled)
    layers = range(len(across.values))
    figure = go.Figure(
        go.Scatter(
            x=across.values,
            y=up.values,
            mode="markers+text",
            text=[str(layer) if layer in labelled else "" for layer in layers],
            customdata=list(layers),
            textposition="top center",
            marker={"color": COLOURS[0], "size": 7},
            cliponaxis=False,
            hovertemplate="layer %{customdata}<br>%{x:.4g}, %{y:.4g}<extra></extra>",
        )
    )
    figure.update_xaxes(title=_title(across), **axes[0])
    figure.update_yaxes(title=_title(up), **axes[1])
    return lay_out(figure, 460)


def _scale(values: Float[np.ndarray, " layers"], axis: str) -> Float[np.ndarray, " layers"]:
    """Where values stand on their axis, from 0 to 1."""
    shown = np.log10(values) if axis == "log" else values
    low = np.nanmin(shown)
    return (shown - low) / max(float(np.nanmax(shown) - low), 1e-12)


def _choose_labels(places: Float[np.ndarray, "layers 2"]) -> set[int]:
    """The points furthest out whose labels, above them, meet no point and no other label."""
    out = np.abs(places - np.nanmedian(places, axis=0)).max(axis=1)
    labels: dict[int, np.ndarray] = {}
    for layer in np.argsort(-out)[: 4 * _MOST_LABELS]:
        if not np.isfinite(out[layer]) or len(labels) == _MOST_LABELS:
            break
        label = places[layer] + (0, _LABEL[1] / 2)
        near = np.abs(np.delete(places, layer, axis=0) - label) < np.array(_LABEL) / 2 + 0.01
        met = any((np.abs(other - label) < _LABEL).all() for other in labels.values())
        if not met and not near.all(axis=1).any():
            labels[int(layer)] = label
    return set(labels)


def _title(each: Importance) -> str:
    return f"{MEASURES[each.measure].label}, {UNIT_LABELS[each.unit].lower() if each.unit != 'mlp' else 'MLP'}"
