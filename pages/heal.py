"""Train after the cut: watch the pruned model learn again, on text that it is not judged by."""

import streamlit as st

from ui.frame import framed, require_summary
from ui.heal import choose_recipe, draw_runs
from ui.live import panel
from ui.view import get_view

with framed("heal") as frame:
    require_summary(frame)
    with st.container(key="heal"):
        panel("heal", lambda: draw_runs(choose_recipe(get_view())))
