"""The two views of the page, and which of them is shown."""

from __future__ import annotations

import streamlit as st

from explorer.execution import ModelSummary
from ui import session
from ui.compare.comparison import draw_comparison
from ui.compare.history import draw_tried
from ui.compare.pins import get_pins
from ui.compare.stars import keep_pins
from ui.view import Navigation, get_compared, linked, one_of

VIEWS = {"History": draw_tried, "Side by side": draw_comparison}


def draw_compare(summary: ModelSummary) -> None:
    """Draw the view that is chosen; a link that says what is compared chooses the second until the user does."""
    if session.read(Navigation).go_to:  # a row was set: app.py goes there, and this run is of the panel alone
        st.rerun()
    keep_pins(summary)
    first = "Side by side" if get_compared() is not None else "History"
    chosen = st.segmented_control(
        "View", list(VIEWS), default=first, required=True, label_visibility="collapsed",
        **linked("view", "compare view", first, one_of(VIEWS)),
    )  # fmt: skip
    VIEWS[chosen](summary)
    if waiting := get_pins():
        st.caption(f"{len(waiting)} pins of other models or texts wait in this browser until those are loaded.")
