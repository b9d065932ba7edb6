"""Every published way to choose what to remove, on one held-out text."""

import streamlit as st

from explorer.execution import ModelSummary, View, ask_curve
from ui.frame import framed, require_summary
from ui.live import get_engine, get_owner
from ui.plans import choose_specs, draw_contest, read_plans


def main(view: View, summary: ModelSummary) -> None:
    specs = choose_specs()
    with st.expander("Plan files"):
        plans = read_plans(summary.n_layers)
    engine, owner = get_engine(), get_owner()
    jobs = {str(spec): ask_curve(engine, owner, view, spec) for spec in specs}
    jobs |= {f"{plan.spec} {number}": ask_curve(engine, owner, view, plan) for number, plan in enumerate(plans, 1)}
    with st.container(key="plans"):
        if jobs:
            draw_contest(view, summary, jobs)
        else:
            st.caption("Tick methods to compare them here.")


with framed("plans") as frame:
    main(frame.view, require_summary(frame))
