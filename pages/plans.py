"""Every published way to choose what to remove, on one held-out text."""

import streamlit as st

from explorer.execution.engine import ModelSummary, View
from explorer.execution.requests import ask_curve
from ui.frame.frame import framed, require_facts
from ui.live.engine import get_engine, get_owner
from ui.plans.plan_comparison import choose_specs, draw_contest, read_plans


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
    main(frame.view, require_facts(frame))
