"""Records -> plotly figures. Bright is redundant: one sequential, colour-blind safe map (cividis) throughout."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from explorer.records import Redundancy

SCALE = "cividis_r"
TOKEN_LABELS = {
    "last_token": "Last token",
    "mean": "Mean over tokens",
    "mean_without_first": "Mean without the first token",
}
_UNIT_LABELS = {"layer": "Layer", "attention": "Attention", "mlp": "MLP"}


def draw_redundancy(found: Redundancy, token: str, without_first: bool = False) -> go.Figure:
    """Draw angular distance over start layer and block size, and block influence under it on the same layer axis.

    Args:
        found: what was measured.
        token: `last_token`, `mean` or `mean_without_first`, for the angular distance.
        without_first: leave the first token of each window out of the block influence.
    """
    n = found.n_layers
    figure = make_subplots(rows=2, shared_xaxes=True, row_heights=[0.8, 0.2], vertical_spacing=0.04)
    figure.add_trace(_triangle(found, token), 1, 1)
    figure.add_trace(_strips(found, without_first), 2, 1)
    step = max(1, n // 16)
    figure.update_xaxes(range=[-0.5, n - 0.5], tickmode="linear", dtick=step, showgrid=False, zeroline=False)
    figure.update_xaxes(title="Layer (for blocks: the first one)", row=2, col=1)
    figure.update_yaxes(
        title="Block size", range=[n + 0.5, 0.5], tickmode="linear", tick0=1, dtick=step, showgrid=False, row=1, col=1
    )
    figure.update_yaxes(showgrid=False, autorange="reversed", row=2, col=1)
    return figure.update_layout(height=640, margin={"l": 10, "r": 10, "t": 10, "b": 10}, plot_bgcolor="rgba(0,0,0,0)")


def _triangle(found: Redundancy, token: str) -> go.Heatmap:
    n = found.n_layers
    values = np.full((n, n), np.nan)
    for size, row in enumerate(found.angular_distance(token), 1):
        values[size - 1, : len(row)] = row
    return go.Heatmap(
        z=values,
        x=np.arange(n),
        y=np.arange(1, n + 1),
        colorscale=SCALE,
        hovertemplate="layers %{x} and on, %{y} in all<br>angular distance %{z:.4f}<extra></extra>",
        hoverongaps=False,
        colorbar={
            "title": {"text": "Angular distance<br>lower is more redundant"},
            "len": 0.75,
            "y": 1,
            "yanchor": "top",
        },
    )


def _strips(found: Redundancy, without_first: bool) -> go.Heatmap:
    values = np.stack([found.block_influence(unit, without_first) for unit in _UNIT_LABELS])
    shown = np.log10(np.maximum(values, 1e-6))
    ticks = [t for t in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0) if shown.min() - 0.5 <= np.log10(t) <= shown.max() + 0.5]
    return go.Heatmap(
        z=shown,
        x=np.arange(found.n_layers),
        y=list(_UNIT_LABELS.values()),
        customdata=values,
        colorscale=SCALE,
        hovertemplate="%{y} %{x}<br>block influence %{customdata:.4f}<extra></extra>",
        xgap=1,
        ygap=1,
        colorbar={
            "title": {"text": "Block influence"},
            "tickvals": np.log10(ticks),
            "ticktext": [f"{t:g}" for t in ticks],
            "len": 0.25,
            "y": 0,
            "yanchor": "bottom",
        },
    )


def shade(values: np.ndarray) -> list[str]:
    """Colour values from most (bright) to least redundant, on a log scale, as CSS colours."""
    logs = np.log10(np.maximum(values, 1e-6))
    low, high = float(logs.min()), float(logs.max())
    return sample_colorscale(SCALE, ((logs - low) / max(high - low, 1e-9)).ravel().tolist())
