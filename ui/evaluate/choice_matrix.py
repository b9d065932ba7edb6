"""What each text and each objective would remove first: which are compared, how far they agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.benchmarks import PROBE, PROBES
from explorer.charts import draw_choices, draw_variance
from explorer.execution import ModelSummary, View, ask_choices
from explorer.measures import CRITERIA
from explorer.plans import OBJECTIVES, Choices
from ui import session
from ui.live import get_engine, get_owner, ready
from ui.parts import define, draw_plot, kept


@dataclass(frozen=True, kw_only=True)
class AskedChoices:
    """What was asked: the model and the texts of the page, the texts and objectives that choose, how many layers go."""

    asked: tuple[View, tuple[str, ...], tuple[str, ...], int] | None = None


def draw_choice_matrix(view: View, summary: ModelSummary) -> None:
    """Let the user name texts and objectives; compare what each would remove first."""
    with st.form("choices", border=True):
        objectives = st.multiselect(
            "Objectives", [*CRITERIA, *(PROBE + name for name in PROBES)], OBJECTIVES, format_func=_name_objective,
            **kept("choices objectives"), help=define("criterion", "probe"),
        )  # fmt: skip
        left, right = st.columns(2)
        written = left.text_area(
            "Texts, one a line", view.text, **kept("choices texts"), placeholder="wikitext2\nc4\n~/notes.md"
        )
        number = right.number_input(
            "Layers to remove", 1, summary.n_layers - 1, min(4, summary.n_layers - 1), **kept("choices number")
        )
        asked = st.form_submit_button("Compare them", type="primary")
    texts = tuple(dict.fromkeys(line.strip() for line in written.splitlines() if line.strip()))
    chosen = (view.source, texts, tuple(objectives), int(number))
    if asked:
        session.change(AskedChoices, asked=chosen)
    if session.read(AskedChoices).asked != chosen or not texts or not objectives:
        st.caption("Every text's calibration windows, by every objective, choose once and one after another.")
        st.caption(define("calibration", "window"))
        return
    job = ask_choices(get_engine(), get_owner(), *chosen)
    if ready(job):
        _draw(job.result)


def _name_objective(name: str) -> str:
    return f"Probe: {PROBES[name.removeprefix(PROBE)].label}" if name.startswith(PROBE) else CRITERIA[name].label


def _draw(found: Choices) -> None:
    draw_plot(
        draw_choices(found), "choices", list_choices(found),
        "The share of the removed layers that every two choices have in common; the table has what each removes.",
    )  # fmt: skip
    draw_plot(
        draw_variance(found), "variance", list_variance(found),
        "How much of what is removed depends on text, objective and search.",
    )  # fmt: skip
    st.caption(
        "Bars: 95% intervals over layers. What is missing to 100% depends on combinations of them. "
        + define("interval")
    )


def list_choices(found: Choices) -> dict[str, list[Any]]:
    """List what each choice removes, and what it has in common with each."""
    text, objective, search, removed = (list(map(str, column)) for column in zip(*found.cells, strict=True))
    common = dict(zip((", ".join(each[:3]) for each in found.cells), found.agreement.tolist(), strict=True))
    return {"text": text, "objective": objective, "search": search, "removed": removed, **common}


def list_variance(found: Choices) -> dict[str, list[Any]]:
    """List the shares with their intervals."""
    shares = list(found.variance.values())
    low, high = zip(*(each.interval or (None, None) for each in shares), strict=True)
    return {"factor": [*found.variance], "share": [each.share for each in shares], "low": [*low], "high": [*high]}
