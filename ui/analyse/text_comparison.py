"""Texts, or two models, side by side: triangles on one colour scale, and where their rankings part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import streamlit as st

from explorer.charts import TOKEN_LABELS, UNIT_LABELS, draw_agreement, draw_scatter, draw_side_by_side, tabulate
from explorer.execution import View
from explorer.masks import NONE
from explorer.measures import MEASURES, Importance, SimilarityStats, read_similarity
from explorer.numerics import correlate
from ui.live import get_engine, get_owner, ready
from ui.parts import TEXT_KINDS, Table, define, draw_plot, explain_measures, keep_upload, kept, upload


def draw_beside(view: View) -> None:
    """Let the user name other texts or a model; compare what the residual stream does on them."""
    others = _choose(view)
    if not others:
        st.caption("Name another text, such as wikitext2 or a file, or another model.")
        return
    engine, owner = get_engine(), get_owner()
    views = [view, *others]
    jobs = [engine.redundancy(owner, each, f"beside {number}") for number, each in enumerate(views)]
    there = [ready(job) for job in jobs]  # each draws how far it is
    if not all(there):
        return
    found: list[SimilarityStats] = [job.result for job in jobs]
    names = _name(views)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        token = st.segmented_control(
            "Angular distance of", list(TOKEN_LABELS), format_func=TOKEN_LABELS.__getitem__, default="last_token",
            required=True, **kept("beside token"),
        )  # fmt: skip
        second = 1
        if len(found) > 2:
            second = st.selectbox("Beside the first", range(1, len(found)), format_func=names.__getitem__)
    pair, pair_names = [found[0], found[second]], [names[0], names[second]]
    figure = draw_side_by_side(pair, [_escape(name) for name in pair_names], token)
    alt = "Two triangles of angular distance, and the difference."
    draw_plot(figure, "side-by-side", _list_both(pair, token), alt)
    st.caption(define("angular distance", "block influence", "residual stream"))
    if len({each.n_layers for each in found}) > 1:
        st.caption("The models have different numbers of layers; ranks cannot be compared.")
        return
    _draw_agreement(found, names)
    _draw_ranks(pair, pair_names)


def _choose(view: View) -> list[View]:
    with st.form("beside", border=True):
        left, right = st.columns(2)
        texts = left.text_area(
            "Texts beside it, one a line",
            **kept("beside texts"),
            placeholder="wikitext2\n~/notes.md",
        )
        model = right.text_input("Model beside it", **kept("beside model"), placeholder=view.model)
        with right:
            files = upload("Texts of your own", TEXT_KINDS, "beside files", megabytes=64)
        st.form_submit_button("Compare", type="primary")
    named = [line.strip() for line in texts.splitlines() if line.strip()]
    named += [str(keep_upload(file.name, file.getvalue(), get_engine().cache)) for file in files]
    chosen = [replace(view, mask=NONE, text=text) for text in dict.fromkeys(named) if text != view.text]
    if model.strip() and model.strip() != view.model:
        chosen.append(replace(view, mask=NONE, model=model.strip()))
    return chosen


def _name(views: Sequence[View]) -> list[str]:
    """What tells the views apart: texts, or models."""
    return [Path(each.text).name if each.model == views[0].model else each.model for each in views]


def _escape(name: str) -> str:
    return name.replace("<", "&lt;")  # plotly reads some HTML


def _draw_agreement(found: Sequence[SimilarityStats], names: Sequence[str]) -> None:
    """Draw how far the rankings of all texts agree, by one measure."""
    read = [read_similarity(each) for each in found]
    labels = [f"{MEASURES[each.measure].label}, {UNIT_LABELS[each.unit]}" for each in read[0]]
    chosen = st.selectbox(
        "Rankings by", range(len(labels)), 1, format_func=labels.__getitem__, **kept("beside measure"),
        help=explain_measures(dict.fromkeys(each.measure for each in read[0])),
    )  # fmt: skip
    agreement = correlate([each[chosen].ranked for each in read])
    table = {"": list(names)} | {name: agreement.spearman[:, i].tolist() for i, name in enumerate(names)}
    figure = draw_agreement(agreement, [_escape(name) for name in names])
    draw_plot(figure, "agreement-of-texts", table, "Rank correlations between texts.")


def _draw_ranks(found: Sequence[SimilarityStats], names: Sequence[str]) -> None:
    """Say how far two rankings agree, and which layers are redundant on one and not on the other."""
    pairs: list[tuple[Importance, ...]] = list(zip(*(read_similarity(each) for each in found), strict=True))
    rows: dict[str, list] = {"measure": [], "unit": [], "Spearman": [], "Kendall": [], "part most": []}
    for pair in pairs:
        agreement = correlate([each.ranked for each in pair])
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
    figure = draw_scatter(influence[0], influence[1])
    figure.update_xaxes(title=f"Block influence, {_escape(names[0])}")
    figure.update_yaxes(title=f"Block influence, {_escape(names[1])}")
    draw_plot(figure, "beside-influence", table, "Block influence on one against the other, by layer.")


def _list_both(found: Sequence[SimilarityStats], token: str) -> Table:
    tables = [tabulate(each, token) for each in found]
    n = min(map(len, tables))
    cells = [(start, size) for size in range(1, n + 1) for start in range(n - size + 1)]
    return {
        "start": [start for start, _ in cells],
        "size": [size for _, size in cells],
        "first": [float(tables[0][size - 1, start]) for start, size in cells],
        "second": [float(tables[1][size - 1, start]) for start, size in cells],
    }
