"""What all figures share: maps, colours, axes. Bright is redundant; methods differ by more than colour."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.colors import sample_colorscale

#: One sequential map, safe for the colour-blind, for whatever is the more redundant the lower it is.
SCALE = "cividis_r"

#: For differences, white at 0.
DIVERGING = "RdBu_r"

#: Okabe and Ito's colours, black and yellow left out: both vanish in one of the themes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "triangle-down", "star")

UNIT_LABELS = {"layer": "Layer", "attention": "Attention", "mlp": "MLP"}

_MARGIN = {"l": 10, "r": 10, "t": 36, "b": 10}  # above: plotly's toolbar, which would cover colour bars

#: Of intervals: their ends are wider than any marker, so that a short one shows beside its own.
WHISKERS = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 5}


def lay_out(figure: go.Figure, height: int) -> go.Figure:
    """Give a figure its height and no frame of its own."""
    return figure.update_layout(
        height=height, margin=_MARGIN, plot_bgcolor="rgba(0,0,0,0)", legend={"orientation": "h", "y": -0.2}
    )


def tick_step(n_layers: int) -> int:
    """Layers from one tick to the next, so that 80 of them can be read: a round number."""
    least = max(1, n_layers // 16)
    power = 10 ** (len(str(least)) - 1)
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least)


def mark(number: int) -> dict:
    """Colour, dash and symbol of the n-th line of a figure; where colours come again, dashes are others."""
    dash = DASHES[(number + number // len(COLOURS)) % len(DASHES)]
    return {
        "line": {"color": COLOURS[number % len(COLOURS)], "dash": dash, "width": 2},
        "marker": {"symbol": SYMBOLS[number % len(SYMBOLS)], "size": 5, "color": COLOURS[number % len(COLOURS)]},
    }


@cache
def sample_scale(number: int) -> tuple[str, ...]:
    """Colours of the sequential map as CSS, in equal steps from the brightest."""
    return tuple(sample_colorscale(SCALE, list(np.linspace(0, 1, number))))


def shade(values: Float[np.ndarray, " values"]) -> list[str | None]:
    """Colour values from the lowest, the brightest, as CSS colours; None for what is not finite.

    The scale is a log scale where all are positive, else that of the inverse hyperbolic sine: linear up to the median
    size, a log scale beyond.
    """
    return list(_shade(np.ascontiguousarray(values, float).tobytes()))


@lru_cache(maxsize=64)
def _shade(content: bytes) -> tuple[str | None, ...]:
    """Colour values that pages ask for again and again, as the numbers that an array holds."""
    values = np.frombuffer(content)
    known = values[np.isfinite(values)]
    if not len(known):
        return (None,) * len(values)
    scaled = np.log(values) if (known > 0).all() else np.arcsinh(values / max(float(np.median(np.abs(known))), 1e-12))
    low, high = float(np.nanmin(scaled)), float(np.nanmax(scaled))
    places = (scaled - low) / max(high - low, 1e-9)
    colours = iter(sample_colorscale(SCALE, places[np.isfinite(places)].tolist()))  # each call reads all scales
    return tuple(next(colours) if np.isfinite(place) else None for place in places)
