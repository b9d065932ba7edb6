"""The prompts that samples go on from: presets and the user's own, kept for the session."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from ui.view import linked, one_of, some_of, text_of

PRESETS = {
    "Facts": "The capital of France is",
    "Code": "To sort a list of numbers in Python,",
    "Story": "Once upon a time, a small robot",
    "Reasoning": "If a train leaves at noon and travels for three hours, it arrives at",
    "Question": "Why is the sky blue?",
    "List": "Three things to pack for a week in the mountains:",
}
_FIRST = ("Facts", "Code")
_LENGTHS = (16, 32, 64, 128)
_MOST_CHARS = 4000

#: Prompts at the most.
MOST = len(PRESETS) + 1


@dataclass(frozen=True)
class Prompts:
    """What to go on from, in how many tokens, and whether as a user's turn of the chat template."""

    texts: tuple[str, ...]
    tokens: int
    chat: bool


def choose_prompts(has_template: bool) -> Prompts:
    """Draw the choice; what was chosen outlives a change of page."""
    left, own_place, middle, right = st.columns([5, 4, 2, 2], vertical_alignment="bottom")
    presets = left.pills(
        "Prompts",
        list(PRESETS),
        selection_mode="multi",
        default=_FIRST,
        **linked("prompts", "presets", list(_FIRST), some_of(PRESETS)),
    )
    tokens = middle.selectbox(
        "New tokens", _LENGTHS, _LENGTHS.index(32), **linked("new_tokens", "new_tokens", 32, one_of(_LENGTHS))
    )
    chat = right.toggle(
        "Chat template", disabled=not has_template, **linked("chat", "chat", False, one_of((True, False)))
    )
    own = own_place.text_input(
        "Your own prompt", max_chars=_MOST_CHARS, **linked("prompt", "own_prompt", "", text_of(_MOST_CHARS))
    )
    texts = tuple(PRESETS[name] for name in presets) + ((own,) if own.strip() else ())
    return Prompts(texts, tokens, chat and has_template)
