"""What is asked before a link's model or text is read from this machine."""

from __future__ import annotations

import streamlit as st

from ui.view.session import Question, answer


def draw_question(question: Question) -> None:
    """Ask whether what a link names is to be read. Until that is answered the page shows and does nothing else."""
    with st.container(border=True, width=720, key="question"):
        st.subheader("This link asks to read files on this server", anchor=False)
        for kind, path in question.paths.items():
            st.text(f"{kind.capitalize()}: {path}")
        st.caption("Read it if you trust whoever sent the link, or if you wrote it yourself.")
        with st.container(horizontal=True):
            st.button("Read it", type="primary", key="read it", on_click=answer, args=(question, True))
            st.button("Leave it", key="leave it", on_click=answer, args=(question, False))
