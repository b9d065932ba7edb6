"""Configurations that were pinned, side by side."""

from ui.comparison import draw_comparison
from ui.frame import framed

with framed("compare"):
    draw_comparison()
