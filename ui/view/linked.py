"""Choices on a page that its link holds beside the view: which tab, what colours, prompts, ticked methods."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from ui import session
from ui.parts import Kept, kept
from ui.view.address import Navigation, put_address, read_address

_Read = Callable[[str], Any]


@dataclass(frozen=True, kw_only=True)
class LinkedChoices:
    """The choices on a page that its link holds.

    Args:
        given: what a link says of them, by the URL's parameter, until the widgets ask for it.
        page: the page.
        fields: the URL's parameter -> the widget's key, and its value that is not written.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    page: str | None = None
    fields: Mapping[str, tuple[str, Any]] = field(default_factory=dict)


def one_of(options: Collection[Any]) -> _Read:
    """Return what reads one of some options, None where a link's is none of them."""
    known = {str(option): option for option in options}
    return known.get


def some_of(options: Collection[str]) -> _Read:
    """Return what reads several of some options with commas between them; those that there are not are left out."""
    return lambda text: [option for option in text.split(",") if option in options]


def text_of(most: int) -> _Read:
    """Return what reads a text of no more characters."""
    return lambda text: text if len(text) <= most else None


def linked(name: str, key: str, default: Any, read: _Read) -> Kept:
    """Return the arguments by which a widget's value is kept for the session, and in the link of its page.

    Args:
        name: of the URL's parameter.
        key: of the widget.
        default: its value that is not written.
        read: gives the widget's value from the link's, None if it is none.
    """
    choices, page = session.read(LinkedChoices), session.read(Navigation).page
    given = choices.given.get(name)
    if given is not None and (value := read(given)) is not None:
        st.session_state[key] = value
    session.change(
        LinkedChoices,
        given={other: text for other, text in choices.given.items() if other != name},
        page=page,
        fields={**(choices.fields if choices.page == page else {}), name: (key, default)},
    )
    wanted = _write(st.session_state.get(key, default), default)
    if wanted != read_address().get(name):
        _put(name, wanted)
    return kept(key)


def describe_choices() -> dict[str, str]:
    """Write what was chosen on the page that is shown, where it is not the default."""
    choices = session.read(LinkedChoices)
    if choices.page != session.read(Navigation).page:
        return {}
    written = {
        name: _write(st.session_state.get(key, default), default) for name, (key, default) in choices.fields.items()
    }
    return {name: value for name, value in written.items() if value is not None}


def take_choices(parameters: dict[str, str], known: Collection[str]) -> None:
    """Take what a link holds beside the view, until the widgets ask for it."""
    session.change(LinkedChoices, given={name: value for name, value in parameters.items() if name not in known})


def _put(name: str, value: str | None) -> None:
    parameters = {known: kept for known, kept in read_address().items() if known != name}
    put_address(parameters if value is None else {**parameters, name: value})


def _write(value: Any, default: Any) -> str | None:
    """Return how a value stands in a link; None for the default."""
    if value is None or value == default:
        return None
    return ",".join(value) if isinstance(value, (list, tuple)) else str(value)
