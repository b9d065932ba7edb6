"""What trains, from which start, on what, and for how long: the choice, and how many steps fit."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from explorer.deltas import ModifierSpec
from explorer.errors import ExplorerError
from explorer.execution import View, ask_step_time
from explorer.modifiers import MODIFIERS, find_modifier
from ui.live import get_engine, get_owner, ready
from ui.parts import define, describe_seconds, escape_markdown, kept

_STARTS = {"": "The cut", "refit": "Refit", "linear": "Linear map"}


def choose_recipe(view: View) -> View | None:
    """Let the user choose; return the view with what trains, or None, with a word on why, where that is none."""
    trained = {name: each for name, each in MODIFIERS.items() if each.trains and (view.mask or not each.needs_mask)}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        name = st.selectbox(
            "Train", list(trained), format_func=lambda name: trained[name].label, **kept("heal method"), width=190,
            help="\n\n".join(
                [define("healing", "adapter"), *(f"{each.label}: {each.what}" for each in trained.values())]
            ),
        )  # fmt: skip
        start = st.selectbox(
            "From",
            list(_STARTS) if view.mask else [""],
            format_func=_STARTS.__getitem__,
            **kept("heal start"),
            width=140,
        )
        known = {option.name: option for option in trained[name].options}
        chosen: dict[str, str] = {
            option: st.selectbox(
                known[option].label.capitalize(), known[option].choices, **kept(f"heal {option}"), width=150
            )
            for option in ("preset", "layers", "loss", "text")
            if option in known
        }
        steps = st.number_input("Steps", 1, 100_000, int(known["steps"].default), **kept("heal steps"), width=120)
        lr = st.text_input("Learning rate", known["lr"].default, **kept(f"heal lr {name}"), width=110)
    given: dict[str, str] = {option: value for option, value in chosen.items() if value != known[option].default}
    given["steps"] = str(steps)
    if lr.strip() != known["lr"].default:
        given["lr"] = lr.strip()
    try:
        spec = ModifierSpec.parse(";".join([name, *(f"{key}={value}" for key, value in given.items())]))
        find_modifier(spec)
    except ExplorerError as error:
        st.error(escape_markdown(str(error)))
        return None
    below = (ModifierSpec(start),) if start else ()
    found = replace(view, modify=(*below, spec))
    _offer_timing(found)
    return found


def _offer_timing(view: View) -> None:
    """Say how many steps fit into minutes, from three that are taken when that is asked for."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        minutes = st.number_input("Minutes", 1, 10_000, 10, **kept("heal minutes"), width=120)
        if st.button("How many steps fit?", help="Takes three steps and lets them go."):
            st.session_state.heal_timed = view
        if st.session_state.get("heal_timed") != view:
            return
        job = ask_step_time(get_engine(), get_owner(), view)
        if ready(job):
            st.text(f"A step takes {describe_seconds(job.result)}: {int(60 * minutes / job.result):,} fit.")
