"""Zeros inside the blocks: put there block by block, with what each costs, and where they are."""

import streamlit as st

from ui.frame import framed, require_summary
from ui.live import panel
from ui.sparsity import choose_method, draw_equal_size, draw_pruning
from ui.view import get_view

with framed("sparsity") as frame:
    summary = require_summary(frame)
    with st.container(key="sparsity"):
        panel("sparsity", lambda: draw_pruning(choose_method(get_view()), summary.n_layers))
        panel("equal size", draw_equal_size)
