"""Sample texts: the original beside the pruned, from the same prompt, as they are written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

from explorer.evaluation import Sample
from explorer.execution import Job, ModelSummary
from explorer.masks import NONE
from ui.browser import read, read_scripts
from ui.live import describe_progress, get_engine, get_owner, watch
from ui.parts import describe_perplexity
from ui.prune.prompts import MOST, choose_prompts
from ui.prune.text_diff import mark_differences
from ui.view import get_view

Pair = tuple[Job, Job]

_samples = st.components.v2.component(
    "samples", html='<div class="samples"></div>', css=read("samples.css"), js=read_scripts("samples")
)


def draw_samples(summary: ModelSummary) -> None:
    """Draw a greedy sample for each prompt; a new mask cancels and restarts the pruned ones."""
    engine, owner, view = get_engine(), get_owner(), get_view()
    controls, stop = st.columns([8, 1], vertical_alignment="bottom")
    with controls:
        chosen = choose_prompts(summary.chat)
    pairs: list[Pair] = []
    for number, prompt in enumerate(chosen.texts):
        original, pruned = (
            watch(engine.sample(owner, slot, seen, prompt, chosen.tokens, chosen.chat))
            for slot, seen in zip(_slots(number), (replace(view, mask=NONE), view), strict=True)
        )
        pairs.append((original, pruned))
    for number in range(len(pairs), MOST):  # those of prompts that are not wanted any more
        engine.worker.release(owner, _slots(number))
    with stop:
        _draw_stop([job for pair in pairs for job in pair])
    written = [(job, prompt) for prompt, (_, job) in zip(chosen.texts, pairs, strict=True) if job.state == "done"]
    st.session_state.texts = {view: [(prompt, job.result.text) for job, prompt in written]}
    _samples(key="sample_texts", data=[describe_pair(p, *pair) for p, pair in zip(chosen.texts, pairs, strict=True)])


def _slots(number: int) -> tuple[str, str]:
    """Where a prompt's original and pruned text are asked for."""
    return f"sample/{number}/original", f"sample/{number}/pruned"


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


def describe_pair(prompt: str, original: Job, pruned: Job) -> dict[str, Any]:
    """Describe a prompt's two texts as pieces; differences are marked once both are there."""
    both = original.state == pruned.state == "done"
    texts = _text_of(original), _text_of(pruned)
    pieces = mark_differences(*texts) if both else tuple([(text, False)] for text in texts)
    return {
        "prompt": prompt,
        "original": {"pieces": pieces[0], **_describe_side(original)},
        "pruned": {"pieces": pieces[1], **_describe_side(pruned)},
    }


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
    return {"state": " …", "note": "" if job.partial else describe_progress(job)}


def describe_sample(sample: Sample) -> str:
    """Say how much a text repeats itself, and how well its prompt was foreseen."""
    words = f"repetition {sample.repetition:.0%}"
    if sample.prompt_perplexity is not None:
        words += f" · perplexity of the prompt {describe_perplexity(sample.prompt_perplexity)}"
    return words
