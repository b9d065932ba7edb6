"""A figure -> its layout for a page of a paper: one column or two wide, 8 pt, black on white whatever the theme."""

from __future__ import annotations

import copy
from typing import Any

import plotly.graph_objects as go

#: Widths of a figure, in inches.
WIDTHS = {"One column": 3.25, "Two columns": 6.75}

DPI = 300  # of what has pixels

_PIXELS = 96  # of CSS in an inch; a point is 4/3 of one
_FONT = {"family": "Arial, Helvetica, sans-serif", "size": 8 * 4 / 3, "color": "#000000"}
_AXIS = {
    "gridcolor": "#e0e0e0",
    "linecolor": "#000000",
    "zerolinecolor": "#c0c0c0",
    "title": {"font": {"size": _FONT["size"]}},
    "automargin": True,
}
_TEMPLATE = {"layout": {"xaxis": _AXIS, "yaxis": _AXIS, "font": _FONT, "hovermode": False}}
_LESS = {"One column": 0.6, "Two columns": 0.75}  # height on paper, of that on the page
_TICKS = {"One column": 6, "Two columns": 16}  # the most on one axis across, where layers are counted


def fit_to_paper(figure: go.Figure, width: str) -> dict[str, Any]:
    """Return the layout that a figure has on paper.

    Args:
        figure: as it is on the page.
        width: a name in `WIDTHS`.
    """
    layout: dict[str, Any] = copy.deepcopy(figure.layout.to_plotly_json())
    margin = {**layout.get("margin", {}), "l": 4, "r": 4, "b": 4}
    margin["t"] = 22 if layout.get("annotations") else 8
    layout.update(
        width=round(WIDTHS[width] * _PIXELS),
        height=round(layout.get("height", 450) * _LESS[width]),
        template=_TEMPLATE,
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        margin=margin,
    )
    layout.pop("autosize", None)
    for annotation in layout.get("annotations", ()):
        annotation["font"] = {**annotation.get("font", {}), "size": _FONT["size"]}
    for name, axis in layout.items():
        if name.startswith(("xaxis", "yaxis")):
            axis["automargin"] = True
            _thin_ticks(axis, _TICKS[width] if name.startswith("x") else 16)
    return layout


def _thin_ticks(axis: dict[str, Any], most: int) -> None:
    """Make the steps of an axis of layers longer until there are few enough."""
    step, ends = axis.get("dtick"), axis.get("range")
    if isinstance(step, int) and ends is not None and axis.get("type") != "log":
        axis["dtick"] = step * -(-int(abs(ends[1] - ends[0])) // (step * most))
    elif isinstance(step, int) and most < 16:
        axis["dtick"] = 3 * step
