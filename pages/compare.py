"""Configurations that were pinned, side by side."""

from ui.compare.comparison import draw_comparison
from ui.frame.frame import framed
from ui.live.live_panels import panel

with framed("compare"):
    panel("comparison", draw_comparison)
