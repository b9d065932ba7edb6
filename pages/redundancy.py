"""Where along the model the residual stream hardly changes."""

import streamlit as st

from explorer.charts import TOKEN_LABELS, draw_redundancy
from ui.frame import framed, require_facts
from ui.session import get_engine, get_owner
from ui.waiting import ready

with framed("redundancy") as frame:
    facts = require_facts(frame)
    job = get_engine().redundancy(get_owner(), frame.view)
    token = st.segmented_control(
        "Angular distance of",
        list(TOKEN_LABELS),
        format_func=TOKEN_LABELS.__getitem__,
        default="last_token",
        required=True,
        key="token",
    )
    with st.container(key="heatmap"):
        if ready(job):
            st.plotly_chart(draw_redundancy(job.result, token, token == "mean_without_first"), key="redundancy")
            st.caption(
                f"{facts.calibration_tokens:,} calibration tokens, {facts.protocol}. Angular distance: arccos of the "
                "cosine between the inputs of layers l and l+n, over π. Block influence: 1 − cosine before and after."
            )
