"""The row that has what was removed made up for: by what, fitted on which text; how far it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import streamlit as st

from explorer.deltas import read_modifiers, write_modifiers
from explorer.execution import ModelSummary, View
from explorer.modifiers import MODIFIERS
from ui import session
from ui.explore.recoveries import ask_recovery, find_recovery, get_recoveries, want_recovery
from ui.live import draw_bar, get_engine, get_owner, name_widget
from ui.parts import define, describe_seconds, escape_markdown
from ui.view import TEXTS, Loading, change_modifiers, get_permissions, get_view, request_view

_SIZES = (8192, 32768, 131072)  # ids to fit by, beside as many as are judged by


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Whether another calibration was chosen, and the page has not run since."""

    moved: bool = False


def draw_recovery(summary: ModelSummary) -> None:
    """Draw the choice of what makes up for what is off, how far that is, and a button that stops or starts it."""
    view = get_view()
    with st.container(key="recovery", horizontal=True, vertical_alignment="bottom", gap="medium"):
        _choose_modifier(view)
        if view.modify:
            _choose_calibration(view)
        _draw_state(view, summary)
    if session.read(Calibration).moved:
        session.change(Calibration, moved=False)
        st.rerun()  # the page shows how far the text has loaded


def _choose_modifier(view: View) -> None:
    chosen = write_modifiers(view.modify)
    recoveries = {name: modifier for name, modifier in MODIFIERS.items() if modifier.recovers}
    options = ["", *recoveries, *([chosen] if chosen and chosen not in recoveries else [])]
    _set("modifier", chosen)
    st.selectbox(
        "Recover by",
        options,
        options.index(chosen),
        format_func=lambda name: MODIFIERS[name].label if name in MODIFIERS else name or "Nothing",
        key="modifier",
        on_change=_take_modifier,
        width=190,
        help="\n\n".join(
            [define("recovered", "modifier", "stale"), *(f"{each.label}: {each.what}" for each in recoveries.values())]
        ),
    )


def _take_modifier() -> None:
    change_modifiers(read_modifiers(st.session_state["modifier"]))
    if get_view().modify:
        want_recovery()


def _choose_calibration(view: View) -> None:
    coming = session.read(Loading).coming or view
    texts, sizes = (
        list(dict.fromkeys(["", *TEXTS, coming.calibration])),
        sorted({0, *_SIZES, coming.calibration_tokens}),
    )
    _set("calibration_text", coming.calibration)
    _set("calibration_size", coming.calibration_tokens)
    st.selectbox(
        "Fitted on",
        texts,
        texts.index(coming.calibration),
        format_func=lambda name: name or f"{view.text}, as the page",
        key="calibration_text",
        on_change=_take_calibration,
        accept_new_options=True,
        width=220,
        help=f"{define('calibration')} Any text that a model can be given. Measures and plans decide by it too.",
    )
    st.selectbox(
        "Tokens",
        sizes,
        sizes.index(coming.calibration_tokens),
        format_func=lambda size: f"{size or view.tokens:,}",
        key="calibration_size",
        on_change=_take_calibration,
        width=110,
        help="Token ids to fit by; more of them fit better and take longer.",
    )


def _take_calibration() -> None:
    name = (st.session_state["calibration_text"] or "").strip()
    if name:
        get_permissions().agree("text", name)
    get_engine().worker.forget_failed()
    size = st.session_state["calibration_size"]
    request_view(replace(get_view(), calibration=name, calibration_tokens=size))
    session.change(Calibration, moved=True)


def _set(key: str, value: object) -> None:
    """Have a widget show what the view has; not before it was drawn once, see `choose_plan`."""
    if st.session_state.get(key, value) != value:
        st.session_state[key] = value


def _draw_state(view: View, summary: ModelSummary) -> None:
    """Draw how far it is, in the rest of the row."""
    job = ask_recovery(view)
    worker, owner = get_engine().worker, get_owner()
    if not view.modify:
        st.caption("Changes weights that stay, or puts something small where something is off, to win loss back.")
    elif not view.mask:
        st.caption("Nothing is off, so there is nothing to make up for.")
    elif job is None:
        st.button("Recover this", key="recover", type="primary", on_click=want_recovery)
        words = get_recoveries(view).describe_stale(view.mask)
        st.caption(escape_markdown(f"{words[0].upper()}{words[1:]}."))
    elif job.active and not job.cancelling:
        st.button("Stop", key=name_widget("stop", job), on_click=worker.cancel_for, args=(owner, job))
        draw_bar(job)
    elif job.state == "failed":
        st.button("Try again", key="recover", on_click=_try_again)
        st.caption(f":red[{escape_markdown(str(job.error))}]")
    elif job.state == "done":
        st.caption(escape_markdown(_describe(view, summary)))
    else:
        st.button("Recover this", key="recover", type="primary", on_click=worker.retry, args=(owner, job))
        st.caption("Stopped.")


def _try_again() -> None:
    get_engine().worker.forget_failed()
    want_recovery()


def _describe(view: View, summary: ModelSummary) -> str:
    found = find_recovery(view)
    assert found is not None
    words = f"Made on {found.tokens:,} tokens of {found.fitted_on} in {describe_seconds(found.seconds)}"
    if found.parameters_added:
        share = found.parameters_added / summary.cost_model.costs(view.mask, summary.window).parameters
        words += f"; {found.parameters_added:,} parameters more ({share:.1%})"
    return f"{words}."
