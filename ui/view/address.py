"""The address in the browser: what is written there, and whether it is a link that somebody followed."""

from __future__ import annotations

import streamlit as st

_MOST = 64


class Written:
    """The addresses that were written, from the last one that the browser was heard to have.

    Whatever a browser asks says which address it has. It may not have heard of the last that were written; one that it
    had before those, or that was never written, is where somebody went: by a link, back or forward.
    """

    def __init__(self) -> None:
        self._addresses: list[dict[str, str]] = []

    def write(self, address: dict[str, str]) -> None:
        """Note that an address was written."""
        if not self._addresses or self._addresses[-1] != address:
            self._addresses = [*self._addresses, address][-_MOST:]

    def follow(self, address: dict[str, str]) -> bool:
        """Note the address that a browser has; tell whether it was led there."""
        for at in reversed(range(len(self._addresses))):
            if self._addresses[at] == address:
                del self._addresses[:at]
                return False
        self._addresses = [address]
        return True


def is_link(parameters: dict[str, str]) -> bool:
    """Tell whether the browser was led to an address of these parameters, once for each time that it was."""
    return _get_written().follow(parameters)


def put_address(parameters: dict[str, str]) -> None:
    """Write parameters into the address."""
    if parameters != dict(st.query_params):
        st.query_params.from_dict(parameters)
    _get_written().write(dict(st.query_params))  # as the browser will say it


def _get_written() -> Written:
    return st.session_state.setdefault("written", Written())
