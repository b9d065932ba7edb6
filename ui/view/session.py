"""What one browser session holds: its view, kept in the URL, and its place in the engine's queue."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st

from explorer.checkpoints import DEFAULT_MODEL
from explorer.deltas import ModifierSpec, read_modifiers, write_modifiers
from explorer.errors import ExplorerError
from explorer.execution import View
from explorer.masks import NONE, Mask
from explorer.modifiers import find_modifier
from explorer.plans import PlanSpec
from explorer.text import DEFAULT_TEXT
from ui import session
from ui.live import rerun_panels
from ui.session import Shown
from ui.view.address import Navigation, put_address, read_address
from ui.view.linked import describe_choices, take_choices
from ui.view.permissions import Kind, NoName, Permissions

MOST_TOKENS = 2**31 - 1

#: What a view names that may be a file: the field, and what a link needs to read it.
_READ: dict[str, Kind] = {"model": "model", "text": "text", "calibration": "text"}

#: Panels that show something of the mask, wherever they are.
OF_THE_MASK = ("header", "instrument", "recovery", "pins", "samples")

DEFAULT_VIEW = View(
    model=os.environ.get("EXPLORER_MODEL") or DEFAULT_MODEL,
    text=DEFAULT_TEXT,
    tokens=2048,
    window=256,
    dtype="auto",
    device="auto",
    quantize="none",
    mask=NONE,
)


def get_view() -> View:
    """Return this session's view: at first the one of the link by which its browser came."""
    if (view := session.read(Shown).view) is None:
        session.change(Shown, view=DEFAULT_VIEW)
        follow_link(read_address())
        return get_view()
    return view


def follow_link(parameters: dict[str, str]) -> None:
    """Show what a link says that a browser came by, or went back or forward to."""
    if not parameters:
        return
    if "of" in parameters:
        compare_variants(parameters["of"])
    take_choices(parameters, {*describe_view(DEFAULT_VIEW), *_RARE, "of"})
    show_linked(*read_view(parameters))


@st.cache_resource(show_spinner=False)
def get_permissions() -> Permissions:
    """Return what links may have this server read."""
    return Permissions.of()


def show_linked(view: View, notices: list[str]) -> None:
    """Show a view that came from elsewhere; or have the page ask first, if it reads what no link may read."""
    asked: dict[str, Path] = {}
    for name, kind in _READ.items():
        if not (named := getattr(view, name)):
            continue
        try:
            path = get_permissions().asks(kind, named)
        except NoName as error:
            notices = [*notices, f"The link's {name} was skipped. {error}"]
            view = replace(view, **{name: getattr(DEFAULT_VIEW, name)})
        else:
            asked |= {name: path} if path is not None else {}
    session.change(Messages, question=Question(view, asked, notices) if asked else None)
    if not asked:
        session.change(Shown, view=view)
        notify(notices)


@dataclass(frozen=True)
class Question:
    """What a link asks to read on this server.

    Args:
        view: the link's.
        paths: what would be read, by `model`, `text` and `calibration`.
        notices: what is to be said of the link.
    """

    view: View
    paths: dict[str, Path]
    notices: list[str]


@dataclass(frozen=True, kw_only=True)
class Messages:
    """What is asked and said of the view.

    Args:
        question: what has to be answered before anything else.
        notices: what is to be said.
        page: the page on which that was said first; empty before.
    """

    question: Question | None = None
    notices: tuple[str, ...] = ()
    page: str = ""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What the Compare page shows, as the text of its link.

    Args:
        chosen: by a link or a user; None for all that is starred.
        shown: what is shown now.
    """

    chosen: str | None = None
    shown: str | None = None


def get_question() -> Question | None:
    """Return what this session has to answer before anything else."""
    return session.read(Messages).question


def answer(question: Question, agreed: bool) -> None:
    """Show the link's view if it was agreed to; or stay with the view that this session has."""
    session.change(Messages, question=None)
    if agreed:
        for name, kind in _READ.items():
            get_permissions().agree(kind, getattr(question.view, name))
        set_view(question.view)
        notify(question.notices)
    write_url(get_view())


def set_view(view: View) -> None:
    """Change this session's view."""
    session.change(Shown, view=view)
    notify([])


def notify(notices: Sequence[str]) -> None:
    """Have something said of the view, on the page that is drawn next, until it or the view changes."""
    session.change(Messages, notices=tuple(notices), page="")


def read_notices(page: str) -> tuple[str, ...]:
    """Return what is to be said of the view on a page."""
    if session.read(Messages).page not in ("", page):
        notify([])
    return session.change(Messages, page=page).notices


def change_mask(mask: Mask) -> None:
    """Set another mask; the panels of the page that depend on it run again."""
    _change(replace(get_view(), mask=mask))


def change_modifiers(modify: tuple[ModifierSpec, ...]) -> None:
    """Set what makes up for what is off; the panels of the page that depend on it run again."""
    _change(replace(get_view(), modify=modify))


def _change(view: View) -> None:
    set_view(view)
    write_url(view)
    rerun_panels(*OF_THE_MASK)


def take_to_explore(mask: Mask, modify: tuple[ModifierSpec, ...] | None = None) -> None:
    """Show a mask on the Explore page, and modifiers if they are given; for callbacks.

    app.py goes there before anything is drawn: what the browser says of a page drawn meanwhile would lead back to it.
    """
    view = get_view()
    view = replace(view, mask=mask, modify=view.modify if modify is None else modify)
    set_view(view)
    write_url(view)
    session.change(Navigation, go_to="explore")


def write_url(view: View) -> None:
    """Put the view into the URL, so that a copy of it restores the view anywhere."""
    parameters = describe_view(view)
    if session.read(Navigation).page == "compare" and (compared := session.read(Compared).shown):
        parameters["of"] = compared
    parameters |= describe_choices()
    put_address(parameters)


def compare_variants(variants: str | None) -> None:
    """Choose what the Compare page shows, as the text of its link; None for all that is starred."""
    session.change(Compared, chosen=variants, shown=variants)


def get_compared() -> str | None:
    """Return what was chosen for the Compare page; None where that is all that is starred."""
    return session.read(Compared).chosen


def note_compared(variants: str) -> None:
    """Take note of what the Compare page shows now, for its link."""
    session.change(Compared, shown=variants)
    write_url(get_view())


def describe_view(view: View) -> dict[str, str]:
    """Write a view as URL parameters: model, text and mask always, the rest where it is not the default."""
    always = {"model": view.model, "text": view.text, "mask": str(view.mask)}
    rest = {name: getattr(view, name) for name in _RARE if getattr(view, name) != getattr(DEFAULT_VIEW, name)}
    return always | {name: write_modifiers(value) if name == "modify" else str(value) for name, value in rest.items()}


#: What a link has of a view where it is not the default.
_RARE = ("tokens", "window", "dtype", "device", "quantize", "plan", "modify", "calibration", "calibration_tokens")
_NAMES = ("model", "text", "calibration", "dtype", "device", "quantize")


def _read_known(text: str) -> tuple[ModifierSpec, ...]:
    """Read modifiers that there are. Raises ModifyError."""
    found = read_modifiers(text)
    for spec in found:
        find_modifier(spec)
    return found


def read_view(parameters: dict[str, str]) -> tuple[View, list[str]]:
    """Read a view from URL parameters. What is not valid is skipped, and a line about each is returned."""
    changes: dict[str, Any] = {}
    notices: list[str] = []
    for name, value in parameters.items():
        try:
            if name == "mask":
                changes[name] = Mask.parse(value or "none")
            elif name == "plan":
                changes[name] = PlanSpec.parse(value)
            elif name == "modify":
                changes[name] = _read_known(value)
            elif name in ("tokens", "window", "calibration_tokens"):
                if not 2 <= int(value) <= MOST_TOKENS:
                    raise ValueError
                changes[name] = int(value)
            elif name in _NAMES and value.strip():
                changes[name] = value.strip()
        except ExplorerError as error:
            notices.append(f"The link's {name} was skipped. {error}")
        except ValueError:
            notices.append(f"The link's {name} was skipped: {value!r} is not a whole number from 2 to {MOST_TOKENS:,}.")
    return replace(DEFAULT_VIEW, **changes), notices
