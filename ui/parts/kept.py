"""Widgets whose values are there when one comes back to their page."""

from __future__ import annotations

from typing import Literal, TypedDict


class Kept(TypedDict):
    """Arguments of such a widget."""

    key: str
    persist_state: Literal["session"]


def kept(key: str) -> Kept:
    """Return the arguments by which Streamlit keeps a widget's value for the session, drawn or not.

    They also have a value that the session set told until the browser knows it, not in one run alone: the browser may
    drop what a run drew if the next one follows at once.
    """
    return {"key": key, "persist_state": "session"}
