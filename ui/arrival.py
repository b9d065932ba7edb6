"""The end of a page, by which the browser tells that it shows all of it."""

from __future__ import annotations

import streamlit as st

from ui.watching import hold_panels, release_panels, turn_page

_JS = """
const TOLD = new WeakMap();

export default function ({ parentElement, data, setTriggerValue }) {
  if (data.seen || TOLD.get(parentElement) === data.visit) return;
  TOLD.set(parentElement, data.visit);
  setTriggerValue("shown", data.visit);
}
"""

_mark = st.components.v2.component("arrival", html="<span></span>", js=_JS)


def begin_page(page: str) -> None:
    """Begin to draw a page. If it is another one, no panel runs by itself before the browser shows all of it.

    A browser that hears at once of a new page and of a panel's run takes the second for another page, and clears all.
    It tells only once of each visit: Streamlit sends what a user does in that very moment together with it, as if
    all of it were for the panel that holds the mark.
    """
    state = st.session_state
    turn_page()
    if state.get("page") != page:
        state.page, state.visit, state.seen = page, state.get("visit", 0) + 1, False
        hold_panels()


def mark_end() -> None:
    """Draw what tells that the browser got here; in a panel, for what it says is to run no more than that."""
    state = st.session_state

    def note() -> None:
        if state.get("arrival", {}).get("shown") == state.visit:  # not of a page left meanwhile
            state.seen = True
            release_panels()

    _mark(key="arrival", data={"visit": state.visit, "seen": state.seen}, on_shown_change=note, height="content")
