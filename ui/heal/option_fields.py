"""The field of an option of what trains: under the option's name, with what it means one hover away."""

from __future__ import annotations

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


def choose_option(option: Option, default: str) -> str:
    """Draw the field of an option; return its value.

    Args:
        option: the option.
        default: its value where nothing is given; fields of other defaults, as a preset's, are other fields.
    """
    label = _LABELS.get(option.name, option.name.capitalize())
    meaning = f"{option.label[0].upper()}{option.label[1:]}."
    place, width = kept(f"heal {option.name} {default}"), _WIDTHS.get(option.name, 130)
    if not option.choices:
        return st.text_input(label, default, help=meaning, width=width, **place).strip() or default
    first = option.choices.index(default)
    return st.selectbox(label, option.choices, first, format_func=_describe, help=meaning, width=width, **place)


def _describe(choice: str) -> str:
    return _WORDS.get(choice, choice)
