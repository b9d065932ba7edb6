"""Measures of layers, attention and MLPs: which are wanted, their strips, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from explorer.charts import UNIT_LABELS, draw_agreement, draw_heads, draw_norms, draw_scatter, draw_strips
from explorer.execution import View, ask_attention, ask_importance, request_importance
from explorer.measures import MEASURES, Importance
from explorer.numerics import correlate
from ui import session
from ui.live import get_engine, get_owner, ready
from ui.parts import Table, define, draw_plot, explain_measure, explain_measures, kept

_AT_FIRST = ("block-influence", "angular-distance", "relative-l2")

#: What a measure is, or what it is made of.
MEANINGS = {
    "angular-distance": define("angular distance"),
    "block-influence": define("block influence"),
    "relative-l1": define("update"),
    "relative-l2": define("update"),
    "loss": define("leave-one-out"),
    "kl": define("KL"),
    "logit-l2": define("logit L2"),
    "disagreement": define("top-1 agreement"),
    "taylor": define("Taylor"),
    "magnitude": define("magnitude"),
    "coalition": define("coalition"),
    "shapley": define("Shapley value"),
    "replaceability": define("replaceability"),
    "entropy": define("entropy increase"),
}


@dataclass(frozen=True, kw_only=True)
class MeasuresAtFirst:
    """The measures that a session begins with; None before it has."""

    measures: tuple[str, ...] | None = None


def choose_measures(view: View) -> list[Importance]:
    """Let the user choose measures; return those that are there, and draw how far the others are."""
    names = st.multiselect(
        "Measures",
        list(MEASURES),
        default=_choose_at_first(view),
        format_func=lambda name: MEASURES[name].label,
        **kept("measures"),
        placeholder="Choose what to measure",
        help=explain_measures(st.session_state.get("measures") or _choose_at_first(view)),
    )
    found: list[Importance] = []
    for name in names:
        job = ask_importance(get_engine(), get_owner(), view, name, f"measure {name}")
        if ready(job):
            found += job.result
    return found


def _choose_at_first(view: View) -> list[str]:
    """Measures that a session begins with: a few, and those that are being taken, as by a page that was reloaded."""
    measures, runs = session.read(MeasuresAtFirst).measures, get_engine().runs
    if measures is None:
        others = [name for name in MEASURES if name not in _AT_FIRST]
        measures = (*_AT_FIRST, *(n for n in others if runs(request_importance(view, n))))
        session.change(MeasuresAtFirst, measures=measures)
    return list(measures)


def draw_layers(view: View) -> None:
    """Draw one measure on the layer axis, with intervals and how stable the ranks are."""
    found = choose_measures(view)
    if not found:
        st.caption("Choose a measure to see it here.")
        return
    names = list(dict.fromkeys(each.measure for each in found))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        name = st.selectbox("Shown", names, format_func=lambda n: MEASURES[n].label, **kept("shown"))
        n_layers = len(found[0].values)
        k = st.number_input(
            "Rank stability: among the k most redundant, k =", 1, n_layers, max(1, n_layers // 4),
            help=define("rank stability"), **kept("k"),
        )  # fmt: skip
    shown = [each for each in found if each.measure == name]
    others = [each for each in found if each.measure != name]
    figure = draw_strips(shown, others)
    alt = f"{MEASURES[name].label} of every layer, attention and MLP; the table has the numbers."
    draw_plot(figure, f"strips-{name}", list_importances(shown, int(k)), alt)
    st.caption(
        f"{explain_measure(name)} {MEANINGS.get(name, '')} Bars: 95% bootstrap intervals over windows. "
        + define("interval", "window")
    )
    if MEASURES[name].kind == "attention":
        _draw_heads(view, name)
    if MEASURES[name].kind == "similarity":
        _draw_norms(view)


def _draw_norms(view: View) -> None:
    job = get_engine().redundancy(get_owner(), view)
    if ready(job):
        found = job.result
        table = {
            "boundary": list(range(found.n_layers + 1)),
            "norm": found.residual_norms().tolist(),
            "norm without the first token": found.residual_norms(True).tolist(),
        }
        draw_plot(draw_norms(found), "residual-norm", table, "Mean norm of the residual stream at every boundary.")
        st.caption(define("residual stream"))


def _draw_heads(view: View, name: str) -> None:
    job = ask_attention(get_engine(), get_owner(), view)
    if ready(job):
        values = (job.result.entropy if name == "attention-entropy" else job.result.first).mean(axis=0)
        table = {"layer": np.arange(len(values))} | {f"head {h}": values[:, h] for h in range(values.shape[1])}
        draw_plot(
            draw_heads(values, MEASURES[name].label), f"heads-{name}", table, f"{MEASURES[name].label} of every head."
        )


def list_importances(shown: Sequence[Importance], k: int) -> Table:
    """List values, intervals and rank stability, a row for each layer and unit."""
    table: dict[str, list] = {"unit": [], "layer": [], "value": [], "low": [], "high": [], "rank": [], f"among {k}": []}
    for each in shown:
        n = len(each.values)
        intervals, among = each.intervals(), each.rank_stability(k)
        table["unit"] += [UNIT_LABELS[each.unit]] * n
        table["layer"] += range(n)
        table["value"] += each.values.tolist()
        table["low"] += [None] * n if intervals is None else intervals[:, 0].tolist()
        table["high"] += [None] * n if intervals is None else intervals[:, 1].tolist()
        table["rank"] += (each.order.argsort() + 1).tolist()
        table[f"among {k}"] += [None] * n if among is None else among.tolist()
    return table


def draw_measures(view: View) -> None:
    """Draw the measures' rank correlations, and any two of them against each other."""
    found = choose_measures(view)
    unit = st.segmented_control(
        "Of",
        list(UNIT_LABELS),
        format_func=UNIT_LABELS.__getitem__,
        default="layer",
        required=True,
        **kept("unit"),
    )
    shown = [each for each in found if each.unit == unit]
    if len(shown) < 2:
        st.caption("Choose two measures or more that can be taken of this unit.")
        return
    kendall = st.toggle("Kendall's τ", **kept("kendall"), help="Spearman's ρ if off")
    labels, agreement = [MEASURES[each.measure].label for each in shown], correlate([each.ranked for each in shown])
    matrix = agreement.kendall if kendall else agreement.spearman
    table = {"measure": labels} | {label: matrix[:, i].tolist() for i, label in enumerate(labels)}
    draw_plot(draw_agreement(agreement, labels, kendall), "rank-correlation", table, "Rank correlations of measures.")
    with st.container(horizontal=True):
        across = st.selectbox("Across", range(len(shown)), format_func=labels.__getitem__, **kept("across"))
        up = st.selectbox("Up", range(len(shown)), 1, format_func=labels.__getitem__, **kept("up"))
    pair = {
        "layer": list(range(len(shown[across].values))),
        labels[across]: shown[across].values.tolist(),
        labels[up] + " (up)": shown[up].values.tolist(),
    }
    draw_plot(draw_scatter(shown[across], shown[up]), "scatter", pair, f"{labels[up]} against {labels[across]}.")
