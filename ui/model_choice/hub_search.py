"""Models on the hub by a few words, where there is a hub; a click chooses one."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from explorer.checkpoints import can_ask_hub, search_hub
from explorer.errors import ModelError
from ui.parts import escape_markdown


def draw_hub(choose: Callable[[str], None]) -> None:
    """Draw a field that searches the hub, and what it found.

    Args:
        choose: called with the name that is clicked.
    """
    if not can_ask_hub():
        return
    words = st.text_input("Search the hub", key="hub words", placeholder="qwen 0.5b", max_chars=100).strip()
    if not words:
        return
    try:
        names = _search(words)
    except ModelError as error:
        st.caption(escape_markdown(str(error)))
        return
    for number, name in enumerate(names):
        st.button(escape_markdown(name), key=f"on hub {number}", type="tertiary", on_click=choose, args=(name,))
    if not names:
        st.caption("The hub has no model of these words.")


@st.cache_data(ttl=300, show_spinner="Asking the hub", max_entries=100)
def _search(words: str) -> list[str]:
    return search_hub(words)
