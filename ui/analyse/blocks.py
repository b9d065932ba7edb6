"""The triangle: click a block of layers, and take it to Explore."""

from __future__ import annotations

import streamlit as st

from explorer.charts import TOKEN_LABELS, draw_redundancy, tabulate
from explorer.execution import ModelSummary, View
from explorer.masks import Mask
from explorer.measures import SimilarityStats
from ui.live import get_engine, get_owner, ready
from ui.parts import Table, define, draw_plot, kept
from ui.view import take_to_explore


def draw_blocks(view: View, summary: ModelSummary) -> None:
    """Draw angular distance over start layer and block size; offer the block that is clicked for removal."""
    job = get_engine().redundancy(get_owner(), view)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        token = st.segmented_control(
            "Angular distance of",
            list(TOKEN_LABELS),
            format_func=TOKEN_LABELS.__getitem__,
            default="last_token",
            required=True,
            **kept("token"),
        )
        rescaled = st.toggle("Rescale each row", **kept("rescaled"), help="From 0 to 1, as Gromov et al. draw it")
    with st.container(key="heatmap"):
        if not ready(job):
            return
        found: SimilarityStats = job.result
        offer = st.container(key="offer", horizontal=True, vertical_alignment="center")
        figure = draw_redundancy(found, token, token == "mean_without_first", rescaled)
        clicked = draw_plot(
            figure, "angular-distance", _list_blocks(found, token),
            "Angular distance of every block of layers, by its first layer and its size; the table has the numbers.",
            clickable=True,
        )  # fmt: skip
        with offer:
            _offer(view, clicked)
        st.caption(
            f"{summary.calibration_tokens:,} calibration tokens, {summary.protocol}. "
            + define("angular distance", "block influence", "residual stream", "calibration", "window")
        )


def _offer(view: View, clicked: list[float] | None) -> None:
    if not clicked:
        st.caption("Click a block to remove it. Outlined: the best start of each size.")
        return
    start, size = int(clicked[0]), int(clicked[1])
    block = Mask.of_layers(range(start, start + size))
    st.text(f"Layers {block}: angular distance {clicked[2]:.4f}")
    st.button("Remove this block", type="primary", on_click=take_to_explore, args=(block,))
    if view.mask:
        st.button(f"Remove it beside {view.mask}", on_click=take_to_explore, args=(view.mask | block,))


def _list_blocks(found: SimilarityStats, token: str) -> Table:
    values, best = tabulate(found, token), found.best_starts(token)
    cells = [(start, size) for size in range(1, found.n_layers + 1) for start in range(found.n_layers - size + 1)]
    return {
        "start": [start for start, _ in cells],
        "size": [size for _, size in cells],
        "angular distance": [float(values[size - 1, start]) for start, size in cells],
        "best start of its size": [best[size - 1] == start for start, size in cells],
    }
