"""What trains, from which start, on what, and for how long: the choice, and how many steps fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import streamlit as st

from explorer.deltas import ModifierSpec
from explorer.errors import ExplorerError
from explorer.execution import View, ask_pace
from explorer.healing import PRESETS
from explorer.modifiers import MODIFIERS, Modifier, find_modifier
from ui import session
from ui.heal.option_fields import choose_option
from ui.live import get_engine, get_owner, ready
from ui.parts import define, describe_seconds, escape_markdown, kept

_STARTS = {"": "The cut", "refit": "Refit", "linear": "Linear map"}
_SHOWN = ("preset", "layers", "loss", "text", "lr")
#: Options that mean something only where another has one of some values.
_ONLY_WHERE = {
    "teacher": ("loss", ("kl", "both")),
    "share": ("text", ("self",)),
    "prompt": ("text", ("self",)),
    "decoding": ("text", ("self",)),
}
_STEPS, _NOT_HERE = "heal steps", ("steps", "until")


@dataclass(frozen=True, kw_only=True)
class TimedTraining:
    """The view whose training's steps are timed."""

    view: View | None = None


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
            "From", list(_STARTS) if view.mask else [""], format_func=_STARTS.__getitem__, **kept("heal start"),
            width=130,
        )  # fmt: skip
        given = _choose(trained[name], _SHOWN, {})
    with st.expander("More options"), st.container(horizontal=True, gap="medium"):
        others = [option.name for option in trained[name].options if option.name not in (*_SHOWN, *_NOT_HERE)]
        given |= _choose(trained[name], others, given)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        default = next(option.default for option in trained[name].options if option.name == "steps")
        steps = st.number_input("Steps", 1, 10_000_000, int(default), **kept(_STEPS), width=130)
        try:
            spec = ModifierSpec.parse(";".join([name, *(f"{key}={value}" for key, value in given.items())]))
            found = replace(view, modify=(*((ModifierSpec(start),) if start else ()), spec.having(steps=str(steps))))
            find_modifier(found.modify[-1])
        except ExplorerError as error:
            st.error(escape_markdown(str(error)))
            return None
        _offer_timing(found)
    return found


def _choose(modifier: Modifier, names: Sequence[str], given: dict[str, str]) -> dict[str, str]:
    """Draw the fields of some options of a modifier; return what is given, a preset's own numbers left out."""
    known = {option.name: option for option in modifier.options}
    found = dict(given)
    for name in names:
        where, values = _ONLY_WHERE.get(name, ("", ()))
        if name not in known or (where and found.get(where, known[where].default) not in values):
            continue
        default = PRESETS[found.get("preset", "none")].get(name, known[name].default)
        if (value := choose_option(known[name], default)) != default:
            found[name] = value
    return found


def _offer_timing(view: View) -> None:
    """Say how many steps fit into minutes, from three that are taken when that is asked for; let them be taken."""
    minutes = st.number_input("or as many as fit in minutes", 1, 10_000, 10, **kept("heal minutes"), width=190)
    *below, last = view.modify
    timed = replace(view, modify=(*below, last.having(steps="100")))  # the same question, whatever the steps are
    if st.button("How many steps fit?", help="Takes three steps and lets them go."):
        session.change(TimedTraining, view=timed)
    if session.read(TimedTraining).view != timed:
        return
    job = ask_pace(get_engine(), get_owner(), timed)
    if not ready(job):
        return
    pace, count = job.result, job.result.count_steps(60 * minutes)
    st.text(
        f"A step takes {describe_seconds(pace.step)}, a checkpoint {describe_seconds(pace.checkpoint)}, "
        f"all else {describe_seconds(pace.setup)}: {count:,} fit."
    )
    if count:
        st.button(f"Take {count:,} steps", on_click=_take, args=(count,))


def _take(steps: int) -> None:
    st.session_state[_STEPS] = steps
