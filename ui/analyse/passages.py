"""A held-out passage, each token coloured by how much more or less it costs under the mask."""

from __future__ import annotations

import html

import numpy as np
import streamlit as st

from explorer.execution import ModelSummary, Passage, View, ask_passage
from ui.live import get_engine, get_owner, ready
from ui.parts import define, kept

_WORSE, _BETTER = "213, 94, 0", "0, 114, 178"  # Okabe and Ito's vermilion and blue
_FULL = 4.0  # nats at which a colour is full


def draw_passage(view: View, summary: ModelSummary) -> None:
    """Draw a held-out window of the text token by token."""
    if not view.mask:
        st.caption("Nothing is removed. Click a block under Blocks, or turn sites off on the Explore page.")
        st.caption(define("site"))
        st.page_link("pages/explore.py", label="Explore")
        return
    windows = summary.held_out_tokens // summary.window
    number = st.number_input(
        "Held-out window", 1, windows, 1, help=define("held-out", "window"), width=200, **kept("window number")
    )
    job = ask_passage(get_engine(), get_owner(), view, int(number) - 1)
    if not ready(job):
        return
    found: Passage = job.result
    lost = found.masked - found.baseline
    st.text(f"{lost.mean():+.3f} nats a token; {np.mean(lost > 0):.0%} of the tokens cost more without {view.mask}")
    st.caption(
        "Orange and underlined: costs more than in the whole model; blue and overlined: less. "
        f"Full colour from {_FULL:g} nats on. Point at a token for its nats. {define('nat')}"
    )
    with st.container(key="passage", border=True):
        st.html(write_passage(found))
    st.dataframe(
        {
            "token": found.texts[1:],
            "nats, whole model": found.baseline,
            f"nats without {view.mask}": found.masked,
            "nats more": lost,
        },
        hide_index=True,
        width="stretch",
        height=240,
    )


def write_passage(found: Passage) -> str:
    """Write a passage as HTML; the text in it is escaped."""
    first, *rest = found.texts
    spans = [f"<span>{_escape(first)}</span>"]
    for text, baseline, masked in zip(rest, found.baseline, found.masked, strict=True):
        more = float(masked - baseline)
        strength = min(abs(more) / _FULL, 1.0)
        colour, line = (_WORSE, "underline") if more > 0 else (_BETTER, "overline")
        style = f"background: rgba({colour}, {0.6 * strength:.2f})"
        if strength > 0.1:
            style += f"; text-decoration: {line} rgb({colour})"
        spans.append(f'<span style="{style}" title="{baseline:.2f} to {masked:.2f} nats">{_escape(text)}</span>')
    return f'<p style="line-height: 2; white-space: pre-wrap; overflow-wrap: anywhere">{"".join(spans)}</p>'


def _escape(text: str) -> str:
    return html.escape(text.encode(errors="replace").decode())
