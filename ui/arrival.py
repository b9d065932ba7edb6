"""The end of a page, by which the browser tells that it shows all of it."""

from __future__ import annotations

import streamlit as st

from ui.watching import release_panels, turn_page

_JS = """
const SEEN = new WeakMap();

export default function ({ parentElement, data, setTriggerValue }) {
  if (SEEN.get(parentElement) === data.run) return;
  SEEN.set(parentElement, data.run);
  setTriggerValue("shown", data.run);
}
"""

_mark = st.components.v2.component("arrival", html="<span></span>", js=_JS)


def begin_page() -> None:
    """Begin to draw a page: no panel runs by itself before the browser shows all of it."""
    st.session_state.run = st.session_state.get("run", 0) + 1
    turn_page()


def mark_end() -> None:
    """Draw what tells that the browser got here; in a panel, for what it says is to run no more than that."""

    def shown() -> None:
        if st.session_state.get("arrival", {}).get("shown") == st.session_state.run:  # not of a page left meanwhile
            release_panels()

    _mark(key="arrival", data={"run": st.session_state.run}, on_shown_change=shown, height="content")
