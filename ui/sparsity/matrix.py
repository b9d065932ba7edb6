"""One pruned matrix: where it is zero, and how the scores lie by which it became so."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from explorer.charts import draw_scores, draw_zeros
from explorer.execution import View, ask_picture, ask_scores
from explorer.sparsity import LayerErrors, ScoreCounts, ZerosPicture
from ui.live import draw_state, get_engine, get_owner, watch
from ui.parts import draw_plot, kept


def draw_matrix(asked: View, errors: Sequence[LayerErrors]) -> None:
    """Let the user choose a matrix of those that are pruned; draw its zeros and its scores."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        known = {each.layer: each.matrices for each in errors}
        layer = st.selectbox("Layer", list(known), **kept("sparsity layer"), width=110)
        name = st.selectbox("Matrix", known[layer], **kept("sparsity matrix"), width=260)
    engine, owner = get_engine(), get_owner()
    picture = watch(ask_picture(engine, owner, asked, layer, name))
    scores = watch(ask_scores(engine, owner, asked, layer, name))
    if picture.state == "done":
        _draw_zeros(picture.result)
    else:
        draw_state(picture)
    if scores.state == "done":
        _draw_scores(scores.result)
    else:
        draw_state(scores)


def _draw_zeros(picture: ZerosPicture) -> None:
    """Draw a matrix, and its entries from one on that the user names."""
    with st.container(horizontal=True, gap="medium"):
        of = f"{picture.layer} {picture.name}"
        row = st.number_input("Entries from row", 0, picture.rows - 1, 0, key=f"row of {of}", width=160)
        column = st.number_input("and column", 0, picture.columns - 1, 0, key=f"column of {of}", width=160)
    share = float(picture.find_shares(1)[0, 0])
    draw_plot(
        draw_zeros(picture, int(row), int(column)), "zeros",
        {
            "layer": [picture.layer], "matrix": [picture.name], "outputs": [picture.rows], "inputs": [picture.columns],
            "zeros": [share], "asked for": [picture.sparsity],
        },
        f"Where {picture.name} of layer {picture.layer} is zero: shares in cells, and single entries.",
    )  # fmt: skip
    st.caption("Bright: zero.")


def _draw_scores(counts: ScoreCounts) -> None:
    draw_plot(
        draw_scores(counts), "scores",
        {
            "from": (10 ** counts.ends[:-1]).tolist(), "to": (10 ** counts.ends[1:]).tolist(),
            "kept": counts.kept.tolist(), "zeroed": counts.zeroed.tolist(),
        },
        "How many entries have which score, those that stay and those that become zero.",
    )  # fmt: skip
    nothing = f" {counts.nothing:,} entries have a score of 0." if counts.nothing else ""
    st.caption(
        "The line is where one cut for the whole matrix would be; each row, or each group in it, has its own." + nothing
    )
