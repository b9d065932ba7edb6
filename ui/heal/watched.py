"""What a training is watched by: another held-out text, and the prompts of the Explore page."""

from __future__ import annotations

import streamlit as st

from explorer.execution import ModelSummary, Watched
from ui.explore import choose_prompts
from ui.parts import define, kept


def choose_watched(summary: ModelSummary) -> Watched:
    """Let the user choose; nothing of it decides which checkpoint is best."""
    chosen = choose_prompts(summary.chat)
    text = st.text_input(
        "Judged on another text, too", **kept("heal text beside"), placeholder="wikitext2, c4 or a file", width=330,
        help=define("held-out"),
    )  # fmt: skip
    return Watched(text.strip(), chosen.texts, chosen.tokens, chosen.chat)
