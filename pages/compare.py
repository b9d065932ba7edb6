"""Configurations that were pinned, side by side."""

from ui.comparison import draw_comparison
from ui.frame import framed
from ui.watching import panel

with framed("compare"):
    panel("comparison", draw_comparison)
