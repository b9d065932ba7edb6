"""What a session keeps beside the values of its widgets: frozen parts, one of each kind, all under one key.

Whoever keeps something has a dataclass of its own for it, with a default for each field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

import streamlit as st

from explorer.execution import View

_KEY = "session"
_Fields = ParamSpec("_Fields")
_Part = TypeVar("_Part")


def read(kind: Callable[..., _Part]) -> _Part:
    """Return the part of a kind as it is, with its defaults at first."""
    return _read_all().get(kind) or kind()


def change(kind: Callable[_Fields, _Part], *_: _Fields.args, **fields: _Fields.kwargs) -> _Part:
    """Keep the part of a kind with other values of some fields; return it."""
    before: Any = read(kind)
    part: _Part = replace(before, **fields)
    st.session_state[_KEY] = {**_read_all(), kind: part}
    return part


def _read_all() -> Mapping[Callable[..., Any], Any]:
    return st.session_state.get(_KEY, {})


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the pages show, of which figures say that they are made.

    Args:
        view: None until a page asks for it.
    """

    view: View | None = None
