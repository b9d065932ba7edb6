"""How zeros are put inside the blocks: the choice of method, share or pattern, and allocation."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from explorer.deltas import ModifierSpec
from explorer.errors import ExplorerError
from explorer.execution import View
from explorer.modifiers import MODIFIERS, find_modifier
from explorer.sparsity import METHODS, Sparsity
from ui.parts import define, escape_markdown, kept

_KINDS = {"sparsity": "Share", "pattern": "N:M"}
_AT_FIRST = {"sparsity": "50%", "pattern": "2:4"}


def choose_method(view: View) -> View | None:
    """Let the user choose; return the view with what puts zeros, or None, with a word on why, where that is none.

    What the view already has is kept below it, but for zeros by another method.
    """
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        name = st.selectbox(
            "Method", METHODS, METHODS.index("wanda"), format_func=lambda name: MODIFIERS[name].label,
            **kept("sparsity method"), width=160,
            help="\n\n".join(f"{MODIFIERS[name].label}: {MODIFIERS[name].what}" for name in METHODS),
        )  # fmt: skip
        kind = st.segmented_control(
            "Zeros", list(_KINDS), format_func=_KINDS.__getitem__, default="sparsity", required=True,
            **kept("sparsity kind"), help=define("sparsity", "pattern"),
        )  # fmt: skip
        amount = st.text_input(_KINDS[kind], _AT_FIRST[kind], **kept(f"sparsity {kind}"), width=90)
        given = {kind: amount.strip()}
        known = {option.name: option for option in MODIFIERS[name].options}
        if "allocation" in known and kind == "sparsity":
            given["allocation"] = st.selectbox(
                "Allocation", known["allocation"].choices, **kept("sparsity allocation"), width=140,
                help=define("allocation"),
            )  # fmt: skip
    changed = (f"{option}={value}" for option, value in sorted(given.items()) if value != known[option].default)
    try:
        spec = ModifierSpec.parse(";".join([name, *changed]))
        find_modifier(spec)
        Sparsity.of(spec)
    except ExplorerError as error:
        st.error(escape_markdown(str(error)))
        return None
    return replace(view, modify=(*_find_below(view), spec))


def _find_below(view: View) -> tuple[ModifierSpec, ...]:
    """Return the view's modifiers that the zeros are put over: those that have something to work on."""
    return tuple(
        spec for spec in view.modify if spec.name not in METHODS and (view.mask or not MODIFIERS[spec.name].needs_mask)
    )
