"""Records -> plotly figures. Bright is redundant: one sequential, colour-blind safe map (cividis) throughout."""

from explorer.charts.style import SCALE, shade
from explorer.charts.triangle import TOKEN_LABELS, draw_redundancy

__all__ = ["SCALE", "TOKEN_LABELS", "draw_redundancy", "shade"]
