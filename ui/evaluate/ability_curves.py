"""Tasks along plans: which are asked, their accuracy against what is removed, the loss on the same axis."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.benchmarks import PROBE, PROBES
from explorer.charts import AXES, Shares, draw_abilities, draw_curves, find_metric
from explorer.execution import Job, ModelSummary
from explorer.plans import METHODS, Abilities
from ui.evaluate.flipped_items import draw_flipped_items
from ui.live import draw_state, follow
from ui.parts import define, draw_plot, escape_markdown, kept

_AT_FIRST = ("copying", "recall", "comparison", "cloze")
#: Names of the harness' own tasks; not files, which could bring code.
_TASK = re.compile(r"[\w.-]+")
_MOST_ITEMS = 10_000


@dataclass(frozen=True, kw_only=True)
class AskedAbilities:
    """What was asked: tasks, how many items of each, plans, and of which model and texts."""

    asked: tuple[tuple[str, ...], int, tuple[str, ...], str] | None = None


def choose_tasks() -> tuple[tuple[str, ...], int]:
    """Let the user choose probes and tasks; return their names, and how many items of each."""
    probes = st.multiselect(
        "Probes", list(PROBES), _AT_FIRST, format_func=lambda name: PROBES[name].label,
        **kept("evaluate probes"), placeholder="Tick probes", help=define("probe"),
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        written = st.text_input(
            "Tasks", "", **kept("evaluate tasks"), placeholder="arc_easy, hellaswag", help=define("task")
        )
        items = st.number_input(
            "Items of each", 1, _MOST_ITEMS, 50, **kept("evaluate items"), help=define("item"), width=200
        )
    tasks = [name.strip() for name in written.split(",") if name.strip()]
    if strange := [name for name in tasks if not _TASK.fullmatch(name)]:
        st.error(escape_markdown(f"{strange[0]} is not the name of a task."))
        tasks = []
    return (*(PROBE + name for name in probes), *tasks), int(items)


def draw_curves_of_abilities(summary: ModelSummary, jobs: Mapping[str, Job]) -> None:
    """Draw what is known of the plans, and how far the rest are."""
    shown = _count_steps(jobs)
    follow(jobs.values(), lambda: _draw_progress(jobs, shown))
    found = {name: abilities for name, job in jobs.items() if (abilities := _find(job)) is not None}
    if not found:
        st.caption("Curves appear here as soon as the first steps are known.")
        return
    _draw(summary, found)
    draw_flipped_items(found)


def _find(job: Job) -> Abilities | None:
    found = job.latest
    return found if isinstance(found, Abilities) else None


def _count_steps(jobs: Mapping[str, Job]) -> int:
    return sum(len(found.steps) for job in jobs.values() if (found := _find(job)) is not None)


def _draw_progress(jobs: Mapping[str, Job], shown: int) -> None:
    """Draw how far each job is; run the page again when more steps are known than it shows."""
    for job in jobs.values():
        draw_state(job)
    if _count_steps(jobs) > shown:
        st.rerun()


def _draw(summary: ModelSummary, found: Mapping[str, Abilities]) -> None:
    of = st.segmented_control(
        "Against", list(AXES), format_func=AXES.__getitem__, default="layers", required=True, **kept("evaluate axis")
    )
    shares = Shares(of, summary.n_layers, lambda mask: summary.cost_model.costs(mask, summary.window))
    names, every = [METHODS[each.curve.plan.spec.method].label for each in found.values()], list(found.values())
    draw_plot(
        draw_abilities(every, names, shares), "abilities", list_abilities(every, names),
        "Accuracy on each task against what each plan removes, with intervals and the line of chance.",
    )  # fmt: skip
    with st.container():
        for evaluation in every[0].evaluations:
            if evaluation.at_chance:
                st.caption(f"{evaluation.task}: the unpruned model is at chance here, so that nothing can be lost.")
    st.caption("Bars: 95% intervals over items. Dotted: chance. " + define("accuracy (`acc`)", "chance", "interval"))
    draw_plot(
        draw_curves([each.curve for each in every], names, shares), "evaluate-perplexity",
        list_losses(every, names), "Held-out perplexity of every plan on the same axis.",
    )  # fmt: skip
    st.caption(define("perplexity", "held-out"))


def list_abilities(every: Sequence[Abilities], names: Sequence[str]) -> dict[str, list[Any]]:
    """List every task's metric at every step that is known."""
    rows: list[dict[str, Any]] = []
    for abilities, name in zip(every, names, strict=True):
        for evaluation in abilities.evaluations:
            metric = find_metric(evaluation)
            for step in abilities.steps:
                number = abilities.find(evaluation, step)
                measured, difference = evaluation.measure(metric, number), evaluation.compare(metric, number)
                low, high = measured.interval or (None, None)
                rows.append(
                    {
                        "plan": name, "task": evaluation.task, "step": step,
                        "mask": str(abilities.curve.plan.at(step)), "metric": metric, "value": measured.value,
                        "low": low, "high": high, "difference": difference.value, "chance": evaluation.chance,
                        "flips": evaluation.flips(number), "KL": evaluation.kl(number),
                        "expected acceptance": evaluation.acceptance(number),
                        "verdict": evaluation.tell(metric, number),
                    }
                )  # fmt: skip
    return {column: [row[column] for row in rows] for column in rows[0]}


def list_losses(every: Sequence[Abilities], names: Sequence[str]) -> dict[str, list[Any]]:
    """List the held-out perplexity of every step that is known."""
    rows = [
        (name, step, str(each.curve.plan.at(step)), each.curve.scores[step].perplexity)
        for each, name in zip(every, names, strict=True)
        for step in each.steps
    ]
    return dict(zip(("plan", "step", "mask", "perplexity"), map(list, zip(*rows, strict=True)), strict=True))
