"""Train after the cut: watch the pruned model learn again, on text that it is not judged by."""

import streamlit as st

from explorer.execution import ModelSummary
from ui.frame import framed, require_summary
from ui.heal import choose_recipe, choose_watched, draw_runs
from ui.live import panel
from ui.view import get_view


def draw(summary: ModelSummary) -> None:
    asked = choose_recipe(get_view())
    draw_runs(asked, choose_watched(summary))


with framed("heal") as frame:
    summary = require_summary(frame)
    with st.container(key="heal"):
        panel("heal", lambda: draw(summary))
