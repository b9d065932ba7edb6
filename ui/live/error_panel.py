"""What is shown in the place of what broke: the error's own words, and ways on."""

from __future__ import annotations

import sys

import streamlit as st

from explorer.errors import ExplorerError
from explorer.execution import explain
from ui.parts import escape_markdown


def draw_broken(error: BaseException, name: str) -> None:
    """Say what broke, log it, and offer to draw it again or to go to Explore.

    Args:
        name: of what broke, unique on the page.
    """
    if isinstance(error, ExplorerError):
        print(f"{name}: {error}", file=sys.stderr)
    st.error(escape_markdown(str(explain(error))))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Try again", key=f"try {name}")
        st.page_link("pages/explore.py", label="Explore")


def draw_uncaught(error: Exception) -> bool:
    """Draw what nothing on the page met, as an error of a callback, and tell that this was done; it has been logged."""
    try:
        draw_broken(error, "page")
    except Exception as another:  # showing an error must not be another one
        explain(another)
    return True
