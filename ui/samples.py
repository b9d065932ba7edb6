"""Sample texts: the original beside the pruned, from the same prompt."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from explorer.masks import NONE
from ui.engine import Facts
from ui.jobs import Job
from ui.plain import plain
from ui.session import get_engine, get_owner, get_view
from ui.watching import watch

PROMPTS = (
    "The capital of France is",
    "To sort a list of numbers in Python,",
    "Once upon a time, a small robot",
)
NEW_TOKENS = 32


def draw_samples(facts: Facts) -> None:
    """Draw a greedy sample for each prompt, original and pruned side by side."""
    if "prompts" not in st.session_state:
        st.session_state.prompts = list(PROMPTS)
    with st.expander("Prompts"):
        st.session_state.prompts = [
            st.text_input(f"Prompt {number}", prompt, key=f"prompt {number}")
            for number, prompt in enumerate(st.session_state.prompts, 1)
        ]
        chat = st.toggle("Use the model's chat template", disabled=not facts.chat, key="chat")
    engine, owner, view = get_engine(), get_owner(), get_view()
    prompts = [prompt for prompt in st.session_state.prompts if prompt.strip()]
    pairs = [
        tuple(
            watch(engine.sample(owner, f"sample/{number}/{kind}", seen, prompt, NEW_TOKENS, chat))
            for kind, seen in (("original", replace(view, mask=NONE)), ("pruned", view))
        )
        for number, prompt in enumerate(prompts)
    ]
    _draw_pairs(prompts, pairs)


def _draw_pairs(prompts: list[str], pairs: list[tuple[Job, ...]]) -> None:
    for prompt, pair in zip(prompts, pairs, strict=True):
        st.markdown(f"**{plain(prompt)}**")
        for column, job, name in zip(st.columns(2), pair, ("Original", "Pruned"), strict=True):
            with column:
                st.caption(name)
                st.text(_written(job))


def _written(job: Job) -> str:
    if job.state == "done":
        return job.result.text or "(nothing)"
    if job.state == "failed":
        return str(job.error)
    return f"{job.partial or ''} …" if job.active else "(cancelled)"
