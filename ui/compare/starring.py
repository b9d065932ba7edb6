"""On the page where a variant is set: the button that stars it, and the ways on from there."""

from __future__ import annotations

import streamlit as st

from explorer.execution import ModelSummary
from ui.compare.stars import keep_pins, list_stars, star
from ui.compare.variants import Tried
from ui.view import get_view


def draw_pinning(summary: ModelSummary) -> None:
    """Draw the button that stars what is set, and the ways on from here."""
    keep_pins(summary)
    tried, stars = Tried.of(get_view()), list_stars(summary)
    starred = tried in stars and stars[tried].starred
    count = sum(kept.starred for kept in stars.values())
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.button(
            "Unstar this" if starred else "Star this", key="star", on_click=star, args=(summary, tried, not starred),
            disabled=not tried, icon=":material/star:" if starred else ":material/star_outline:",
        )  # fmt: skip
        st.text(f"{count} starred")
        st.page_link("pages/compare.py", label="Compare")
        st.page_link("pages/export.py", label="Export this")
