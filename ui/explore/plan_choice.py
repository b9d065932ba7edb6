"""The choice of a plan: its method and what it ranks; finer options come with a link."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from explorer.plans import METHODS, PlanSpec
from ui.parts import UNIT_NAMES
from ui.view import get_view, set_view, write_url


def choose_plan() -> None:
    """Draw the choice; a change goes into the view and the link."""
    spec = get_view().plan
    methods, units = list(METHODS), METHODS[spec.method].units
    # Not before the widgets were drawn once: with a value set that early the browser now and then shows the first
    # choice without sending it.
    for key, value in (("plan_method", spec.method), ("plan_unit", spec.unit)):
        if st.session_state.get(key, value) != value:
            st.session_state[key] = value
    st.selectbox(
        "Plan",
        methods,
        methods.index(spec.method),
        format_func=lambda name: METHODS[name].label,
        key="plan_method",
        on_change=_take,
        width=220,
        help="\n\n".join(f"{method.label}: {method.source}" for method in METHODS.values()),
    )
    st.selectbox(
        "Removes",
        units,
        units.index(spec.unit),
        format_func=UNIT_NAMES.__getitem__,
        key="plan_unit",
        on_change=_take,
        width=200,
    )
    if options := str(spec).partition(";")[2]:
        st.caption(options)


def _take() -> None:
    view, method, unit = get_view(), st.session_state["plan_method"], st.session_state["plan_unit"]
    if unit not in METHODS[method].units:
        unit = st.session_state["plan_unit"] = METHODS[method].units[0]
    chosen = replace(view, plan=PlanSpec(method, unit, protect=view.plan.protect))
    set_view(chosen)
    write_url(chosen)
