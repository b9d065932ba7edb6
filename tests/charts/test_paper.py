"""Figures on paper: so wide, 8 pt, black on white, with few ticks."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from explorer.charts import DPI, WIDTHS, draw_redundancy, draw_side_by_side, fit_to_paper
from tests.support.figures import make


@pytest.mark.parametrize(("width", "pixels"), [("One column", 975), ("Two columns", 2025)])
def test_a_figure_is_as_wide_as_its_column(width: str, pixels: int) -> None:
    layout = fit_to_paper(draw_redundancy(make(), "mean"), width)
    assert layout["width"] / 96 == WIDTHS[width]
    assert layout["width"] / 96 * DPI == pixels
    assert go.Figure(layout=layout).layout.height == layout["height"]


@pytest.mark.parametrize("width", list(WIDTHS))
def test_fonts_are_8_pt_and_the_ground_is_white_in_every_theme(width: str) -> None:
    figure = draw_side_by_side([make(), make(seed=1)], ["a", "b"], "mean").update_layout(template="plotly_dark")
    layout = fit_to_paper(figure, width)
    shown = go.Figure(layout=layout).layout
    assert shown.template.layout.font.size * 3 / 4 == 8
    assert {annotation.font.size for annotation in shown.annotations} == {32 / 3}
    assert (shown.paper_bgcolor, shown.plot_bgcolor, shown.template.layout.font.color) == (*["#ffffff"] * 2, "#000000")
    assert figure.layout.template.layout.font.color != "#000000"  # the page's own stays


def test_layers_have_few_ticks() -> None:
    for layers in (5, 30, 126):
        axis = fit_to_paper(draw_redundancy(make(layers), "mean"), "One column")["xaxis2"]
        assert layers / axis["dtick"] <= 6
