"""Sizes and perplexities -> the front: what nothing else beats in both, joined, its ends named."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import plotly.graph_objects as go

from explorer.plans import find_front

_LONGEST = 28  # characters of a name


def draw_front(figure: go.Figure, sizes: Sequence[float], perplexities: Sequence[float], names: Sequence[str]) -> None:
    """Add the front to a figure whose perplexity axis is a log axis; names of others are for the pointer.

    Args:
        figure: the figure.
        sizes, perplexities, names: of each variant.
    """
    front = find_front(sizes, perplexities)
    figure.add_scatter(
        x=[sizes[place] for place in front], y=[perplexities[place] for place in front], mode="lines", name="front",
        hoverinfo="skip", line={"color": "gray", "width": 1, "shape": "hv"},
    )  # fmt: skip
    ends = {front[0]: ("left", "bottom"), front[-1]: ("right", "top")} if front else {}
    for place, (side, edge) in ends.items():
        name = names[place]
        shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
        figure.add_annotation(
            x=sizes[place], y=math.log10(perplexities[place]), text=html.escape(shown), showarrow=False,
            xanchor=side, yanchor=edge, yshift=6 if edge == "bottom" else -6, xshift=8 if side == "left" else 0,
            font={"size": 11},
        )  # fmt: skip
