"""A field for each option of what trains, by the option's name, with what it means one hover away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import streamlit as st

from explorer.modifiers import Option
from ui.parts import kept

_LABELS = {"lr": "Learning rate", "check": "Steps between checkpoints"}
_WORDS = {
    "lm": "next token",
    "kl": "unpruned predictions",
    "calibration": "calibration text",
    "self": "its own writing",
    "cut": "beside the cut",
    "last": "last three",
    "head+3": "head and last three",
}
_WIDTHS = {"loss": 190, "text": 160, "layers": 180, "check": 200}


def choose_options(options: Iterable[Option], defaults: Mapping[str, str]) -> dict[str, str]:
    """Draw the fields of some options; return what differs from what they are where nothing is given.

    Args:
        options: the options.
        defaults: values that take the place of an option's own default.
    """
    given = {}
    for option in options:
        default = defaults.get(option.name, option.default)
        value = _draw(option, default)
        if value != default:
            given[option.name] = value
    return given


def _draw(option: Option, default: str) -> str:
    label = _LABELS.get(option.name, option.name.capitalize())
    meaning = f"{option.label[0].upper()}{option.label[1:]}."
    width, place = (
        _WIDTHS.get(option.name, 130),
        kept(f"heal {option.name} {default}"),
    )  # a preset's own is another field
    if not option.choices:
        return st.text_input(label, default, help=meaning, width=width, **place).strip() or default
    first = option.choices.index(default)
    return st.selectbox(label, option.choices, first, format_func=_describe, help=meaning, width=width, **place)


def _describe(choice: str) -> str:
    return _WORDS.get(choice, choice)
