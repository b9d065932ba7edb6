"""Configurations that were pinned, side by side."""

from ui.compare import draw_comparison
from ui.frame import framed
from ui.live import panel

with framed("compare"):
    panel("comparison", draw_comparison)
