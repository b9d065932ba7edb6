"""The address in the browser: what is written there, and where somebody went to by going back or forward.

Whatever a browser asks says which address it has, but it may not have heard of the last one that was written. Hence the
last one that was written counts, until the browser says that somebody went elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

import streamlit as st

from ui import session
from ui.browser import read

_address = st.components.v2.component("address", html="<i hidden></i>", js=read("address.js"))


@dataclass(frozen=True, kw_only=True)
class Navigation:
    """Which page is shown.

    Args:
        in_app: whether app.py has run.
        page: the one that is shown.
        go_to: the one that app.py shows instead, before anything is drawn.
    """

    in_app: bool = False
    page: str | None = None
    go_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Address:
    """What is known of the address in the browser.

    Args:
        written: the page and the parameters that were written last.
        went_to: the parameters that somebody went to, until something is written.
    """

    written: tuple[str | None, Mapping[str, str]] | None = None
    went_to: Mapping[str, str] | None = None


def draw_address(page: str, follow: Callable[[dict[str, str]], None]) -> None:
    """Have `follow` told the parameters of an address that somebody went back or forward to.

    A browser that goes to another page asks for it without what its components say; its link there has no parameters.
    """
    said = dict(st.query_params)

    def go(parameters: dict[str, str]) -> None:
        session.change(Address, went_to=parameters)
        follow(parameters)

    def went() -> None:
        if told := st.session_state.get("address"):
            go(dict(parse_qsl(told["went"]["query"])))

    before, written = session.read(Address).written or (page, said)
    if before != page and said and said != written:
        go(said)
    _address(key="address", default={"went": None}, on_went_change=went)


def read_address() -> dict[str, str]:
    """Return the parameters of the address: those written last, at first those that the browser came with."""
    written = session.read(Address).written
    return dict(st.query_params if written is None else written[1])


def put_address(parameters: dict[str, str]) -> None:
    """Write the parameters of the page that is shown into the address."""
    before, page = session.read(Address), session.read(Navigation).page
    known = before.written == (page, parameters) and st.query_params
    came = dict(st.query_params) if before.written is None else before.went_to
    session.change(Address, written=(page, parameters), went_to=None)
    if not known and came != parameters:
        st.query_params.from_dict(parameters)
