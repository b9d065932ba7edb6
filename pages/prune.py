"""Turn layers, attention and MLPs off; read what it costs and what the model then writes."""

import streamlit as st

from explorer.execution.engine import ModelSummary
from ui.compare.pins import draw_pinning
from ui.frame.frame import framed, require_facts
from ui.live.live_panels import panel
from ui.prune.instrument import draw_instrument
from ui.prune.samples import draw_samples


def main(summary: ModelSummary) -> None:
    with st.container(key="instrument"):
        panel("instrument", lambda: draw_instrument(summary))
    panel("pins", lambda: draw_pinning(summary))
    with st.container(key="samples"):
        panel("samples", lambda: draw_samples(summary))


with framed("prune") as frame:
    main(require_facts(frame))
