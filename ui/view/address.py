"""The address in the browser: what is written there, and where somebody went to by going back or forward.

Whatever a browser asks says which address it has, but it may not have heard of the last one that was written. Hence the
last one that was written counts, until the browser says that somebody went elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

import streamlit as st

from ui.browser import read

_address = st.components.v2.component("address", html="<i hidden></i>", js=read("address.js"))


def draw_address(page: str, follow: Callable[[dict[str, str]], None]) -> None:
    """Have `follow` told the parameters of an address that somebody went back or forward to.

    A browser that goes to another page asks for it without what its components say; its link there has no parameters.
    """
    state, said = st.session_state, dict(st.query_params)

    def go(parameters: dict[str, str]) -> None:
        state.went_to = parameters
        follow(parameters)

    before, written = state.get("written", (page, said))
    if before != page and said and said != written:
        go(said)
    _address(
        key="address",
        default={"went": None},
        on_went_change=lambda: go(dict(parse_qsl(state["address"]["went"]["query"]))),
    )


def read_address() -> dict[str, str]:
    """Return the parameters of the address: those written last, at first those that the browser came with."""
    _, written = st.session_state.get("written", ("", None))
    return dict(st.query_params if written is None else written)


def put_address(parameters: dict[str, str]) -> None:
    """Write the parameters of the page that is shown into the address."""
    state = st.session_state
    page, had = state.get("shown_page"), state.pop("went_to", None)
    known = state.get("written") == (page, parameters) and st.query_params
    came = dict(st.query_params) if "written" not in state else had
    state.written = page, parameters
    if not known and came != parameters:
        st.query_params.from_dict(parameters)
