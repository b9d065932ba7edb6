"""What is left of what the model can do, along any plan; what texts and objectives would remove first."""

import streamlit as st

from explorer.execution import ModelSummary, View, ask_abilities
from ui import session
from ui.evaluate import AskedAbilities, choose_tasks, draw_choice_matrix, draw_curves_of_abilities
from ui.frame import framed, require_summary
from ui.live import get_engine, get_owner
from ui.parts import define
from ui.plans import choose_specs
from ui.view import linked, one_of

VIEWS = ("Abilities", "Text and objective")


def draw_abilities(view: View, summary: ModelSummary) -> None:
    tasks, items = choose_tasks()
    specs = choose_specs()
    chosen = (tasks, items, tuple(map(str, specs)), str(view.source))
    if not tasks or not specs:
        st.caption("Tick probes or name tasks, and tick methods.")
        return
    if session.read(AskedAbilities).asked != chosen:
        st.caption(
            f"Every step of each plan answers {len(tasks) * items:,} items at the most. Plans: {len(specs)}, layers: "
            f"{summary.n_layers}. What is answered stays stored, so that it can be stopped. " + define("item")
        )
        if not st.button("Ask them", type="primary"):
            return
        session.change(AskedAbilities, asked=chosen)
        st.rerun()
    engine, owner = get_engine(), get_owner()
    jobs = {str(spec): ask_abilities(engine, owner, view, spec, tasks, items) for spec in specs}
    with st.container(key="evaluate"):
        draw_curves_of_abilities(summary, jobs)


def main(view: View, summary: ModelSummary) -> None:
    shown = st.segmented_control(
        "View",
        VIEWS,
        default=VIEWS[0],
        required=True,
        label_visibility="collapsed",
        **linked("view", "evaluate view", VIEWS[0], one_of(VIEWS)),
    )
    if shown == VIEWS[0]:
        draw_abilities(view, summary)
    else:
        draw_choice_matrix(view, summary)


with framed("evaluate") as frame:
    main(frame.view, require_summary(frame))
