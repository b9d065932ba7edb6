"""[Curve] -> perplexity against what is removed, how far predictions move, which sites go first."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from explorer.charts.ranges import make_log_axis
from explorer.charts.style import SCALE, lay_out, mark, tick_step
from explorer.masks import NONE, PARTS, Mask, Site
from explorer.model import Costs
from explorer.plans import Curve

#: Masks -> costs.
Cost = Callable[[Mask], Costs]

AXES = {
    "layers": "Share of layers removed",
    "parameters": "Share of parameters removed",
    "flops": "Share of FLOPs removed",
    "kv": "Share of KV cache removed",
}


@dataclass(frozen=True)
class Shares:
    """Says how much of something a mask removes.

    Args:
        of: a name in `AXES`.
        n_layers: L.
        costs: what the model needs under a mask.
    """

    of: str
    n_layers: int
    costs: Cost

    def __call__(self, mask: Mask) -> float:
        """Share in [0, 1]."""
        if self.of == "layers":
            return len(mask.sites) / (2 * self.n_layers)
        before, after = (self._take(self.costs(m)) for m in (NONE, mask))
        return 1 - after / before

    def _take(self, costs: Costs) -> int:
        if self.of == "parameters":
            return costs.parameters
        return costs.flops_per_token if self.of == "flops" else costs.kv_bytes_per_token


def draw_curves(curves: Sequence[Curve], names: Sequence[str], shares: Shares, most: float = 1e4) -> go.Figure:
    """Draw held-out perplexity, on a log axis with 95% intervals, against what is removed.

    Every point can be clicked: it carries its mask. A cross marks where a plan collapses. A hollow marker at the upper
    edge is a perplexity beyond the axis, or one that overflowed.

    Args:
        curves: plans and their scores.
        names: of the plans.
        shares: the axis.
        most: the axis ends at this many times the unpruned perplexity.
    """
    figure = go.Figure()
    styles, (low, high) = _style(names), _find_ends(curves, most)
    for curve, name, style, first in zip(curves, names, styles, _first_of_name(names), strict=True):
        steps, colour = sorted(curve.scores), style["line"]["color"]
        x = [shares(curve.plan.at(step)) for step in steps]
        y = [_finite(curve.scores[step].perplexity) for step in steps]  # what overflows is a gap
        figure.add_trace(_band(curve, steps, x, colour))
        masks = [str(curve.plan.at(step)) for step in steps]
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=name,
            legendgroup=name,
            showlegend=first,
            customdata=masks,
            hovertemplate=f"{name}<br>%{{customdata}}<br>perplexity %{{y:,.2f}}, %{{x:.1%}} removed<extra></extra>",
            **style,
        )
        if beyond := [step for step in steps if not curve.scores[step].perplexity <= high]:
            figure.add_trace(_mark_beyond(curve, beyond, shares, name, style, high))
        if curve.collapse is not None:
            perplexity = curve.scores[curve.collapse].perplexity
            at = perplexity if perplexity <= high else high
            figure.add_scatter(
                x=[shares(curve.plan.at(curve.collapse))], y=[at], mode="markers", legendgroup=name,
                marker={"symbol": "x-thin", "size": 14, "line": {"width": 3, "color": colour}}, cliponaxis=False,
                name=f"{name}: collapse", showlegend=False, hoverinfo="skip",
            )  # fmt: skip
    figure.update_yaxes(title="Held-out perplexity", **make_log_axis(low, high))
    figure.update_xaxes(title=AXES[shares.of], tickformat=".0%")
    return lay_out(figure, 480).update_layout(hovermode="closest")


def _find_ends(curves: Sequence[Curve], most: float) -> tuple[float, float]:
    """The ends of the axis of perplexity: at the least a decade above the unpruned, at the most `most` times it."""
    every = [p for curve in curves for score in curve.scores.values() if (p := _finite(score.perplexity)) is not None]
    unpruned = [p for curve in curves if 0 in curve.scores and (p := _finite(curve.scores[0].perplexity)) is not None]
    baseline = min(unpruned, default=1.0)
    high = max((p for p in every if p < most * baseline), default=baseline)
    return min(every, default=baseline) / 1.07, max(high, 10 * baseline) * 1.12


def _mark_beyond(curve: Curve, steps: Sequence[int], shares: Shares, name: str, style: dict, edge: float) -> go.Scatter:
    """Hollow markers at the edge, for what lies beyond it; pointed at, they tell the value."""
    marker, values = style["marker"], [curve.scores[step].perplexity for step in steps]
    return go.Scatter(
        x=[shares(curve.plan.at(step)) for step in steps],
        y=[edge] * len(steps),
        mode="markers",
        marker={**marker, "symbol": f"{marker['symbol']}-open", "size": 9, "line": {"width": 2}},
        customdata=[str(curve.plan.at(step)) for step in steps],
        text=[f"{value:,.4g}" if math.isfinite(value) else "overflowed" for value in values],
        hovertemplate=f"{name}<br>%{{customdata}}<br>beyond the axis: perplexity %{{text}}, %{{x:.1%}} removed"
        "<extra></extra>",
        name=f"{name}: beyond the axis",
        legendgroup=name,
        showlegend=False,
        cliponaxis=False,
    )


def _finite(perplexity: float) -> float | None:
    return perplexity if math.isfinite(perplexity) else None


def _first_of_name(names: Sequence[str]) -> list[bool]:
    return [name not in names[:number] for number, name in enumerate(names)]


def _style(names: Sequence[str]) -> list[dict]:
    """Colour, dash and symbol by name: plans of one name, as the seeds of a baseline, look alike."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [mark(numbers[name]) for name in names]


def _band(curve: Curve, steps: Sequence[int], x: Sequence[float], colour: str) -> go.Scatter:
    known = [(at, i) for at, step in zip(x, steps, strict=True) if (i := curve.scores[step].perplexity_ci95)]
    across = [at for at, _ in known]
    return go.Scatter(
        x=[*across, *across[::-1]],
        y=[*(high for _, (_, high) in known), *(low for _, (low, _) in known[::-1])],
        mode="lines",
        fill="toself",
        fillcolor=colour,
        opacity=0.25,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def draw_divergences(curves: Sequence[Curve], names: Sequence[str], shares: Shares) -> go.Figure:
    """Draw KL divergence from the unpruned model, and top-1 agreement with it, against what is removed."""
    figure = make_subplots(1, 2, horizontal_spacing=0.14)
    for curve, name, style, shown in zip(curves, names, _style(names), _first_of_name(names), strict=True):
        steps = sorted(curve.divergences)
        x = [shares(curve.plan.at(step)) for step in steps]
        found = [curve.divergences[step] for step in steps]
        for column, values in enumerate(([d.kl_per_token for d in found], [d.top1_agreement for d in found]), 1):
            figure.add_scatter(
                x=x, y=values, mode="lines+markers", name=name, legendgroup=name, showlegend=shown and column == 1,
                customdata=[str(curve.plan.at(step)) for step in steps],
                hovertemplate=f"{name}<br>%{{customdata}}<br>%{{y:.3f}}, %{{x:.1%}} removed<extra></extra>",
                row=1, col=column, **style,
            )  # fmt: skip
    figure.update_yaxes(title="KL from the unpruned model, nats a token", col=1)
    figure.update_yaxes(title="Top-1 agreement", tickformat=".0%", col=2)
    figure.update_xaxes(title=AXES[shares.of], tickformat=".0%")
    return lay_out(figure, 380)


def draw_orders(curves: Sequence[Curve], names: Sequence[str]) -> go.Figure:
    """Draw, for each plan, the step at which every attention and MLP goes, aligned by layer: bright goes first."""
    n_layers = curves[0].plan.n_layers
    titles = [html.escape(name) for name in names]
    spacing = 0.3 / len(curves)  # of the whole height: a title stands in it
    figure = make_subplots(len(curves), 1, shared_xaxes=True, vertical_spacing=spacing, subplot_titles=titles)
    figure.update_annotations(x=0, xanchor="left", font_size=13)
    most = max(len(curve.plan.masks) for curve in curves)
    for row, (curve, name) in enumerate(zip(curves, names, strict=True), 1):
        first: dict[Site, int] = {}
        for step, mask in enumerate(curve.plan.masks):
            for site in mask.sites:
                first.setdefault(site, step)
        steps = [[first.get(Site(layer, part), np.nan) for layer in range(n_layers)] for part in PARTS]
        figure.add_trace(
            go.Heatmap(
                z=steps, x=np.arange(n_layers), y=["Attention", "MLP"], colorscale=SCALE, zmin=1, zmax=most - 1,
                xgap=1, ygap=1, hoverongaps=False, showscale=row == 1,
                colorbar={"title": {"text": "Step"}},
                hovertemplate=f"{name}<br>%{{y}} %{{x}} goes at step %{{z}}<extra></extra>",
            ), row, 1,
        )  # fmt: skip
        figure.update_yaxes(autorange="reversed", showgrid=False, row=row, col=1)
    figure.update_xaxes(showgrid=False, dtick=tick_step(n_layers), zeroline=False)
    figure.update_xaxes(title="Layer", row=len(curves), col=1)
    return lay_out(figure, 110 * len(curves) + 60)
