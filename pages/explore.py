"""Turn layers, attention and MLPs off; read what it costs, win back what can be, and see what the model then writes."""

import streamlit as st

from explorer.execution import ModelSummary
from ui.compare import draw_pinning
from ui.explore import draw_instrument, draw_recovery, draw_samples
from ui.frame import framed, require_summary
from ui.live import panel
from ui.parts import define


def main(summary: ModelSummary) -> None:
    with st.container(key="instrument"):
        panel("instrument", lambda: draw_instrument(summary))
    words = define(
        "site", "residual stream", "block influence", "angular distance", "held-out", "interval", "nat",
        "bits per byte", "KV cache bytes", "FLOPs per token", "budget",
    )  # fmt: skip
    st.caption("What the words mean", help=words, width="content")
    panel("recovery", lambda: draw_recovery(summary))
    panel("pins", lambda: draw_pinning(summary))
    with st.container(key="samples"):
        panel("samples", lambda: draw_samples(summary))


with framed("explore") as frame:
    main(require_summary(frame))
