"""The models at hand: those of this session first, then those that lie on this machine; a click chooses one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import streamlit as st

from explorer.checkpoints import ModelAtHand, list_models
from ui.live import get_engine
from ui.parts import describe_bytes, escape_markdown
from ui.view import get_permissions

_MOST_RECENT = 8


def remember_model(name: str) -> None:
    """Take note that a model was loaded in this session."""
    recent: list[str] = st.session_state.get("recent models", [])
    st.session_state["recent models"] = [name, *(each for each in recent if each != name)][:_MOST_RECENT]


def draw_models(choose: Callable[[str], None]) -> None:
    """Draw a button for each model, with its size and the date of its weights.

    Args:
        choose: called with the name that is clicked.
    """
    found = {model.name: model for model in _find(get_permissions().models, get_engine().cache)}
    recent: list[str] = st.session_state.get("recent models", [])
    names = list(dict.fromkeys([*recent, *found]))
    st.caption(f"Models at hand: {len(names)}")
    with st.container(border=True, key="at_hand", gap=None):
        for number, name in enumerate(names):
            st.button(
                escape_markdown(name),
                key=f"at hand {number}",
                type="tertiary",
                on_click=choose,
                args=(name,),
                help=name,
            )
            st.caption(" · ".join([*_describe(found.get(name)), *(["this session"] if name in recent else [])]))
        if not names:
            st.caption("None. Give a hub id, a folder or a .gguf file.")


def _describe(model: ModelAtHand | None) -> list[str]:
    if model is None:
        return []
    return [describe_bytes(model.bytes), f"{datetime.fromtimestamp(model.modified):%d %b %Y}"]


@st.cache_data(ttl=20, show_spinner=False)
def _find(folders: tuple[Path, ...], cache: Path) -> list[ModelAtHand]:
    return list_models(folders, [cache])
