"""The map of pairs: a job that fills in as it goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.charts import draw_pairs
from explorer.execution import Job, View, ask_interactions, request_interactions
from explorer.measures import Interactions
from ui import session
from ui.live import draw_state, follow, get_engine, get_owner
from ui.parts import UNIT_NAMES, Table, define, draw_plot, kept

_UNITS = ("layer", "site")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Of which models, texts and units the pairs were asked for."""

    wanted: frozenset[str] = frozenset()


def draw_interactions(view: View, n_layers: int) -> None:
    """Draw what pairs cost beyond the sum of each alone; start when asked to."""
    unit = st.segmented_control(
        "Pairs of",
        _UNITS,
        format_func=UNIT_NAMES.__getitem__,
        default="layer",
        required=True,
        **kept("pairs unit"),
    )
    wanted, this = session.read(Pairs).wanted, f"{view.source} {unit}"
    if this not in wanted and get_engine().runs(request_interactions(view, unit), or_done=True):
        wanted = session.change(Pairs, wanted=wanted | {this}).wanted
    if this not in wanted:
        count = n_layers if unit == "layer" else 2 * n_layers
        st.caption(
            f"{count * (count - 1) // 2:,} pairs are scored on the calibration windows, a coarse map first. What is "
            "scored stays stored: the job can be stopped and goes on from there. "
            + define("interaction", "calibration", "window")
        )
        if st.button("Score all pairs", type="primary"):
            session.change(Pairs, wanted=wanted | {this})
            st.rerun()
        return
    job = ask_interactions(get_engine(), get_owner(), view, unit)
    with st.container(key="pairs"):
        found = _find(job)
        follow([job], lambda: _draw_progress(job, _count(found)))
        if found is not None:
            _draw(found)


def _find(job: Job) -> Interactions | None:
    found = job.latest
    return found if isinstance(found, Interactions) else None


def _count(found: Interactions | None) -> int:
    return 0 if found is None else int(found.windows.sum())


def _draw_progress(job: Job, shown: int) -> None:
    """Draw how far the job is; run the page again when more pairs are known than it shows."""
    draw_state(job)
    if _count(_find(job)) > shown:
        st.rerun()


def _draw(found: Interactions) -> None:
    draw_plot(draw_pairs(found), "interactions", list_pairs(found), "Interaction of every pair; the table has them.")
    st.caption(
        define("interaction")
        + " Below 0: with one of the two gone the other matters less. Above 0: each makes up for the other, and both "
        "together cost more than the sum."
    )


def list_pairs(found: Interactions) -> Table:
    """List the pairs that are known."""
    names = [str(unit) for unit in found.units]
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names)) if found.windows[i, j]]
    columns: dict[str, Any] = {
        "one": [names[i] for i, _ in pairs],
        "other": [names[j] for _, j in pairs],
        "interaction": [float(found.pairs[pair]) for pair in pairs],
        "one alone": [float(found.leave_one_out[i]) for i, _ in pairs],
        "other alone": [float(found.leave_one_out[j]) for _, j in pairs],
        "windows": [int(found.windows[pair]) for pair in pairs],
    }
    return columns
