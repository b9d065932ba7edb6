"""A file of docs/: which one, its text, its pictures."""

from __future__ import annotations

import re
from pathlib import Path

import streamlit as st

_FOLDER = Path(__file__).parent.parent.parent / "docs"
#: What can be read, in this order; the rest is about this program's own making.
DOCUMENTS = {
    "glossary": "Glossary",
    "method": "Method",
    "findings": "Findings",
    "export": "Export",
    "cli": "Command line",
    "python": "Python",
    "api": "HTTP API",
    "families": "Families",
    "cluster": "Clusters",
    "performance": "Performance",
}
_LINK = re.compile(r"\[([^\]]*)\]\((\w+)\.md(#[\w-]*)?\)")
_PICTURE = re.compile(r"^!\[([^\]]*)\]\((\w[\w-]*\.png)\)$", re.MULTILINE)


def choose_document() -> str:
    """Draw the choice; return the document's name. The URL holds it as `page`."""
    asked = st.query_params.get("page", "")
    chosen = st.segmented_control(
        "Document", list(DOCUMENTS), format_func=DOCUMENTS.__getitem__, required=True, key="document",
        default=asked if asked in DOCUMENTS else next(iter(DOCUMENTS)), label_visibility="collapsed",
    )  # fmt: skip
    if chosen != asked:
        st.query_params.from_dict({"page": chosen})
    return chosen


def draw_document(name: str) -> None:
    """Draw a document."""
    text = (_FOLDER / f"{name}.md").read_text(encoding="utf-8")
    with st.container(key="text of document", width=960):
        for part in split_pictures(text):
            if isinstance(part, str):
                st.markdown(part)
            else:
                st.image(str(_FOLDER / part[0]), caption=part[1])


def split_pictures(text: str) -> list[str | tuple[str, str]]:
    """Part a document's Markdown into text, whose links lead to this page, and pictures with their captions."""
    linked = _LINK.sub(_lead, text)
    parts: list[str | tuple[str, str]] = []
    at = 0
    for found in _PICTURE.finditer(linked):
        parts += [linked[at : found.start()], (found[2], found[1])]
        at = found.end()
    return [part for part in (*parts, linked[at:]) if not isinstance(part, str) or part.strip()]


def _lead(found: re.Match[str]) -> str:
    """Write a link to another document; of one that is not read here the words."""
    words, name, place = found[1], found[2], found[3] or ""
    return f"[{words}](?page={name}{place})" if name in DOCUMENTS else words
