"""Two texts, or two models, side by side: their triangles on one colour scale, and where their rankings part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import streamlit as st

from explorer.charts import TOKEN_LABELS
from explorer.charts.layers import draw_scatter
from explorer.charts.style import UNIT_LABELS
from explorer.charts.triangle import draw_side_by_side, tabulate
from explorer.importance import read_redundancy
from explorer.masks import NONE
from explorer.measures import MEASURES
from explorer.rankings import correlate
from explorer.records import Redundancy
from ui.engine import View
from ui.plots import Table, draw_plot
from ui.session import get_engine, get_owner
from ui.waiting import ready


def draw_beside(view: View) -> None:
    """Let the user name another text or model; compare what the residual stream does."""
    with st.form("beside", border=True):
        left, right, end = st.columns([2, 2, 1], vertical_alignment="bottom")
        text = left.text_input("Text beside it", key="beside text", placeholder=view.text)
        model = right.text_input("Model beside it", key="beside model", placeholder=view.model)
        end.form_submit_button("Compare", type="primary")
    other = replace(view, mask=NONE, text=text.strip() or view.text, model=model.strip() or view.model)
    if other.source == view.source:
        st.caption("Name another text, such as wikitext2 or a file, or another model.")
        return
    engine, owner = get_engine(), get_owner()
    jobs = [engine.redundancy(owner, view), engine.redundancy(owner, other, "beside")]
    there = [ready(job) for job in jobs]  # each draws how far it is
    if not all(there):
        return
    found: list[Redundancy] = [job.result for job in jobs]
    names = [view.text, other.text] if other.model == view.model else [view.model, other.model]
    token = st.segmented_control(
        "Angular distance of", list(TOKEN_LABELS), format_func=TOKEN_LABELS.__getitem__, default="last_token",
        required=True, key="beside token",
    )  # fmt: skip
    figure = draw_side_by_side(found, [name.replace("<", "&lt;") for name in names], token)
    draw_plot(
        figure, "side-by-side", _list_both(found, token), "Two triangles of angular distance, and the difference."
    )
    if found[0].n_layers == found[1].n_layers:
        _draw_ranks(found, names)
    else:
        st.caption("The models have different numbers of layers; ranks cannot be compared.")


def _draw_ranks(found: list[Redundancy], names: list[str]) -> None:
    """Say how far the rankings agree, and which layers are redundant on one and not on the other."""
    pairs = list(zip(*(read_redundancy(each) for each in found), strict=True))
    rows: dict[str, list] = {"measure": [], "unit": [], "Spearman": [], "Kendall": [], "part most": []}
    for pair in pairs:
        agreement = correlate(pair)
        ranks = [each.order.argsort() for each in pair]
        apart = np.abs(ranks[0] - ranks[1]).argsort(kind="stable")[::-1][:3]
        rows["measure"].append(MEASURES[pair[0].measure].label)
        rows["unit"].append(UNIT_LABELS[pair[0].unit])
        rows["Spearman"].append(round(float(agreement.spearman[0, 1]), 3))
        rows["Kendall"].append(round(float(agreement.kendall[0, 1]), 3))
        rows["part most"].append(
            ", ".join(f"{layer} (rank {ranks[0][layer] + 1} and {ranks[1][layer] + 1})" for layer in apart)
        )
    st.dataframe(rows, hide_index=True, width="stretch")
    (influence,) = [pair for pair in pairs if (pair[0].measure, pair[0].unit) == ("block-influence", "layer")]
    table: Table = {
        "layer": list(range(found[0].n_layers)),
        "first": influence[0].values.tolist(),
        "second": influence[1].values.tolist(),
    }
    figure = draw_scatter(*influence)
    figure.update_xaxes(title=f"Block influence, {names[0]}".replace("<", "&lt;"))
    figure.update_yaxes(title=f"Block influence, {names[1]}".replace("<", "&lt;"))
    draw_plot(figure, "beside-influence", table, "Block influence on one against the other, by layer.")


def _list_both(found: list[Redundancy], token: str) -> Table:
    tables = [tabulate(each, token) for each in found]
    n = min(map(len, tables))
    cells = [(start, size) for size in range(1, n + 1) for start in range(n - size + 1)]
    return {
        "start": [start for start, _ in cells],
        "size": [size for _, size in cells],
        "first": [float(tables[0][size - 1, start]) for start, size in cells],
        "second": [float(tables[1][size - 1, start]) for start, size in cells],
    }
