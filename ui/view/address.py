"""The address in the browser: what is written there, and where somebody went to by going back or forward.

Whatever a browser asks says which address it has, but it may not have heard of the last one that was written. Hence the
last one that was written counts, until the browser says that somebody went elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

import streamlit as st

from ui import session
from ui.browser import read
from ui.live import rerun_page

_address = st.components.v2.component("address", html="<i hidden></i>", js=read("address.js"))
_arrival = st.components.v2.component("arrival", html="<i hidden></i>", js=read("arrival.js"))


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
        arriving: the parameters by which somebody came, by a link or by going back, until the page is drawn.
        arrival: counts what was written on arriving.
    """

    written: tuple[str | None, Mapping[str, str]] | None = None
    arriving: Mapping[str, str] | None = None
    arrival: int = 0


def draw_address(page: str, follow: Callable[[dict[str, str]], None]) -> None:
    """Have `follow` told the parameters of an address that somebody went back or forward to.

    A browser that goes to another page asks for it without what its components say; its link there has no parameters.
    """

    def went() -> None:
        told = st.session_state.get("address")
        if told and told["went"]:  # a page that is left may still tell
            parameters = dict(parse_qsl(told["went"]["query"]))
            session.change(Address, arriving=parameters)
            follow(parameters)
            rerun_page()

    said, written = dict(st.query_params), session.read(Address).written
    if written is None or written[0] != page:
        if written is not None and said and said != written[1]:
            follow(said)
        session.change(Address, arriving=said)
    _address(key="address", default={"went": None}, on_went_change=went)


def draw_arrival(drawn: bool) -> None:
    """Tell the browser what was written on arriving.

    Args:
        drawn: whether the page is drawn: what is written from now on is a step that somebody may go back.
    """
    address = session.read(Address)
    came, query = urlencode(address.arriving or {}), urlencode(read_address())
    _arrival(key="arrival", data={"arrival": address.arrival, "came": came, "query": query})
    if drawn:
        session.change(Address, arriving=None)


def read_address() -> dict[str, str]:
    """Return the parameters of the address: those written last, at first those that the browser came with."""
    written = session.read(Address).written
    return dict(st.query_params if written is None else written[1])


def put_address(parameters: dict[str, str]) -> None:
    """Write the parameters of the page that is shown into the address.

    A step back leads to what was there before; but who has just arrived, be it by a step back, goes on from there: of
    two addresses of one place the second would lead back to the first, and the first to the second.
    """
    address, place = session.read(Address), (session.read(Navigation).page, parameters)
    if address.arriving is not None:
        if parameters != address.arriving:
            session.change(Address, arrival=address.arrival + 1)
    elif address.written != place:
        st.query_params.from_dict(parameters)
    session.change(Address, written=place)
