"""The models at hand: those of this session first, then those that lie on this machine; a click chooses one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import streamlit as st

from explorer.checkpoints import ModelAtHand, list_models
from ui import session
from ui.live import get_engine
from ui.parts import describe_bytes, escape_markdown
from ui.view import get_permissions

_MOST_RECENT = 8


@dataclass(frozen=True, kw_only=True)
class RecentModels:
    """The models that were loaded in a session, the last one first."""

    names: tuple[str, ...] = ()


def remember_model(name: str) -> None:
    """Take note that a model was loaded in this session."""
    others = (each for each in session.read(RecentModels).names if each != name)
    session.change(RecentModels, names=(name, *others)[:_MOST_RECENT])


def draw_models(choose: Callable[[str], None]) -> None:
    """Draw a button for each model, with its size and the date of its weights.

    Args:
        choose: called with the name that is clicked.
    """
    found = {model.name: model for model in _find(get_permissions().models, get_engine().cache)}
    recent = session.read(RecentModels).names
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
