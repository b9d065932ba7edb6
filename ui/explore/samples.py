"""Sample texts: the original beside the pruned and the recovered, from the same prompt, as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from explorer.evaluation import Sample
from explorer.execution import Job, ModelSummary
from explorer.masks import NONE
from ui.browser import read, read_scripts
from ui.explore.prompts import MOST, choose_prompts
from ui.explore.recoveries import ask_recovery
from ui.explore.text_diff import mark_differences
from ui.live import describe_progress, get_engine, get_owner, paint, watch
from ui.parts import describe_perplexity
from ui.view import get_view

#: Side by side: the sides in their order, with the jobs that write them.
Row = dict[str, Job]
SIDES = ("original", "pruned", "recovered")
_MARKS = "Struck out: what the original says and the text beside it does not. Underlined: what it says in its place."

_samples = st.components.v2.component(
    "samples", html='<div class="samples"></div>', css=read("samples.css"), js=read_scripts("tab", "samples")
)


def draw_samples(summary: ModelSummary) -> None:
    """Draw a greedy sample for each prompt; a new mask cancels and restarts the pruned ones."""
    engine, owner, view = get_engine(), get_owner(), get_view()
    controls, stop = st.columns([8, 1], vertical_alignment="bottom")
    with controls:
        chosen = choose_prompts(summary.chat)
    recovery = ask_recovery(view)
    rows: list[Row] = []
    for number, prompt in enumerate(chosen.texts):
        seen = {"original": replace(view.pruned, mask=NONE), "pruned": view.pruned}
        if recovery is not None and recovery.state == "done":
            seen["recovered"] = view
        asked = (prompt, chosen.tokens, chosen.chat)
        rows.append(
            {side: watch(engine.sample(owner, f"sample/{number}/{side}", of, *asked)) for side, of in seen.items()}
        )
    engine.worker.release(owner, _unused(rows))
    jobs = [job for row in rows for job in row.values()]
    with stop:
        _draw_stop(jobs)
    awaited = _await(recovery) if view.recovers else None

    def describe() -> dict[str, Any]:
        return {"rows": [describe_row(prompt, row, awaited) for prompt, row in zip(chosen.texts, rows, strict=True)]}

    _samples(key="sample_texts", data=paint("samples", jobs, describe))
    st.caption(_MARKS)


def draw_texts(key: str, prompts: Sequence[str], sides: Mapping[str, tuple[str, Sequence[str]]]) -> None:
    """Draw texts that are written, side by side; what differs from the first side is marked.

    Args:
        key: of the element.
        prompts: what they go on from.
        sides: title of a side -> a note, and its text for each prompt.
    """
    data, (_, original) = [], next(iter(sides.values()))
    for number, prompt in enumerate(prompts):
        drawn = []
        for title, (note, texts) in sides.items():
            pieces = mark_differences(original[number], texts[number])[1]
            drawn.append({"title": title, "pieces": pieces, "state": "", "note": note})
        data.append({"prompt": prompt, "sides": drawn})
    _samples(key=key, data={"rows": data})
    st.caption(_MARKS)


def _unused(rows: Sequence[Row]) -> list[str]:
    """List the slots of texts that are not wanted any more."""
    wanted = {f"sample/{number}/{side}" for number, row in enumerate(rows) for side in row}
    return [slot for number in range(MOST) for side in SIDES if (slot := f"sample/{number}/{side}") not in wanted]


def _await(recovery: Job | None) -> dict[str, str]:
    """Say in the place of a recovered text why there is none yet."""
    if recovery is None or not recovery.active:
        return {"state": "(not recovered)", "note": ""}
    return {"state": "(waiting)", "note": "written after the recovery"}


def _draw_stop(jobs: list[Job]) -> None:
    """Draw the one button that stops what is being written, or writes again what was stopped."""
    worker, owner = get_engine().worker, get_owner()
    active, stopped = ([job for job in jobs if test(job)] for test in (_is_active, _is_stopped))

    def each(act: Any, chosen: list[Job]) -> None:
        for job in chosen:
            act(owner, job)

    if stopped and not active:
        st.button("Write again", key="stop", on_click=each, args=(worker.retry, stopped))
    else:
        st.button("Stop", key="stop", on_click=each, args=(worker.cancel_for, active), disabled=not active)


def _is_active(job: Job) -> bool:
    return job.active and not job.cancelling


def _is_stopped(job: Job) -> bool:
    return job.state == "cancelled" or job.cancelling


def describe_row(prompt: str, row: Row, awaited: dict[str, str] | None) -> dict[str, Any]:
    """Describe a prompt's texts as pieces; what differs from the original is marked once both are there.

    Args:
        awaited: what to say in the place of a recovered text that is not asked for yet; None where none is due.
    """
    original = row["original"]
    pieces = {side: [(_text_of(job), False)] for side, job in row.items()}
    for side, job in row.items():
        if side != "original" and original.state == job.state == "done":
            own, pieces[side] = mark_differences(_text_of(original), _text_of(job))
            pieces["original"] = own if side == "pruned" else pieces["original"]
    sides = [{"title": side.capitalize(), "pieces": pieces[side], **_describe_side(job)} for side, job in row.items()]
    if awaited is not None and "recovered" not in row:
        sides.append({"title": "Recovered", "pieces": [], **awaited})
    return {"prompt": prompt, "sides": sides}


def _text_of(job: Job) -> str:
    if job.state == "done":
        return job.result.text
    return job.partial or "" if isinstance(job.partial, str) else ""


def _describe_side(job: Job) -> dict[str, str]:
    if job.state == "done":
        state = " (overflow)" if job.result.overflow else "" if job.result.text else "(nothing)"
        return {"state": state, "note": describe_sample(job.result)}
    if job.state == "failed":
        return {"state": str(job.error), "note": ""}
    if _is_stopped(job):
        return {"state": " (stopped)", "note": ""}
    state = "(waiting)" if job.state == "queued" else " (writing)"
    return {"state": state, "note": "" if job.partial else describe_progress(job)}


def describe_sample(sample: Sample) -> str:
    """Say how much a text repeats itself, and how well its prompt was foreseen."""
    words = f"repetition {sample.repetition:.0%}"
    if sample.prompt_perplexity is not None:
        words += f" · perplexity of the prompt {describe_perplexity(sample.prompt_perplexity)}"
    return words
