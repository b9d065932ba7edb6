"""The trainings of this session: started, followed, stopped, kept, beside each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from explorer.charts import draw_training
from explorer.deltas import ModifierSpec, write_modifiers
from explorer.execution import Healing, Job, View, ask_healing
from ui.live import describe_progress, get_engine, get_owner, name_widget, watch
from ui.parts import define, describe_perplexity, describe_seconds, draw_plot, escape_markdown
from ui.view import change_modifiers

_MOST = 4  # trainings beside each other


def draw_runs(asked: View | None) -> None:
    """Draw a button that starts a training, and those that were started for the view's model, text and mask."""
    runs: list[View] = st.session_state.setdefault("healings", [])
    if st.button("Heal this", type="primary", disabled=asked is None) and asked is not None:
        get_engine().worker.forget_failed()
        runs[:] = [*(run for run in runs if run != asked), asked][-_MOST:]
        _let_go(runs)
    shown = [run for run in runs if asked is not None and replace(run, modify=()) == replace(asked, modify=())]
    jobs = [watch(ask_healing(get_engine(), get_owner(), run, f"healing {number}")) for number, run in enumerate(shown)]
    found = {write_modifiers(run.modify): _find(job) for run, job in zip(shown, jobs, strict=True)}
    known = {name: healing for name, healing in found.items() if healing is not None and healing.losses}
    if known:
        _draw_curves(known)
    for run, job in zip(shown, jobs, strict=True):
        _draw_run(run, job)
    if not shown:
        st.caption("Trainings appear here, beside each other. " + define("window", "calibration", "held-out"))


def _let_go(runs: list[View]) -> None:
    """Forget the curves of another mask or model."""
    runs[:] = [run for run in runs if replace(run, modify=()) == replace(runs[-1], modify=())]


def _find(job: Job) -> Healing | None:
    return job.result if job.state == "done" else job.partial


def _draw_curves(known: dict[str, Healing]) -> None:
    rows: dict[str, list[Any]] = {"training": [], "step": [], "training loss": [], "held-out perplexity": []}
    for name, healing in known.items():
        for step, loss in healing.losses:
            for column, value in zip(rows, (name, step, loss, healing.perplexities.get(step)), strict=True):
                rows[column].append(value)
    curves = {name: (healing.losses, sorted(healing.perplexities.items())) for name, healing in known.items()}
    first = next(iter(known.values()))
    draw_plot(
        draw_training(curves, first.unpruned, first.pruned), "healing", rows,
        "Training loss, and held-out perplexity at checkpoints with lines of the whole and the pruned model.",
    )  # fmt: skip
    st.caption("Held-out text decides nothing: which checkpoint is best, windows of the calibration text tell.")


def _draw_run(run: View, job: Job) -> None:
    """Draw how far a training is, and what can be done with it."""
    engine, owner, healing = get_engine(), get_owner(), _find(job)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.text(write_modifiers(run.modify))
        if job.active and not job.cancelling:
            st.button("Stop", key=name_widget("stop", job), on_click=engine.worker.cancel_for, args=(owner, job))
            st.progress(job.fraction, text=escape_markdown(_describe(job, healing)))
        elif job.state == "failed":
            st.caption(f":red[{escape_markdown(str(job.error))}]")
        elif job.state == "done":
            st.button("Keep it", key=name_widget("keep", job), on_click=change_modifiers, args=(run.modify,))
            st.caption(escape_markdown(_describe_end(healing)))
        else:
            st.button("Go on", key=name_widget("on", job), on_click=engine.worker.retry, args=(owner, job))
            if healing is not None and (last := healing.last_checkpoint) is not None:
                cut = (*run.modify[:-1], _cut_short(run.modify[-1], last))
                st.button(f"Keep step {last}", key=name_widget("keep", job), on_click=change_modifiers, args=(cut,))
            st.caption("Stopped.")


def _cut_short(spec: ModifierSpec, step: int) -> ModifierSpec:
    return ModifierSpec(spec.name, tuple(sorted((dict(spec.options) | {"until": str(step)}).items())))


def _describe(job: Job, healing: Healing | None) -> str:
    words = describe_progress(job)
    if healing is None or not healing.records:
        return words
    pace = healing.records[-1].tokens_a_second
    return words if pace is None else f"{words}, {pace:,.0f} tokens a second"


def _describe_end(healing: Healing | None) -> str:
    assert healing is not None
    assert healing.recovery is not None
    found = healing.recovery
    return (
        f"Perplexity {describe_perplexity(found.score.perplexity)}, {describe_perplexity(healing.pruned)} pruned, "
        f"{describe_perplexity(healing.unpruned)} whole: {found.recovered.share:.0%} won back in "
        f"{describe_seconds(found.seconds)}."
    )
