"""Which model, on which text; what it costs as it is; what to do next."""

from dataclasses import replace

import streamlit as st

from explorer.masks import NONE
from ui.frame import Frame, framed, require_summary
from ui.live import get_engine, get_owner
from ui.model_choice import draw_facts, draw_readout, open_choice
from ui.parts import define


def main(frame: Frame) -> None:
    summary = require_summary(frame)
    left, right = st.columns([3, 2], gap="large")
    with left:
        with st.container(key="readout"):
            unpruned = get_engine().score(get_owner(), replace(frame.view, mask=NONE), "unpruned")
            draw_readout(unpruned, "Perplexity of the whole model")
        draw_facts(summary)
    with right:
        st.subheader("Next", anchor=False)
        help = define("residual stream")
        st.page_link("pages/redundancy.py", label="See which layers change the residual stream least", help=help)
        st.page_link("pages/prune.py", label="Turn layers, attention and MLPs off, and read the perplexity")
        st.page_link("pages/plans.py", label="Compare what every published method removes")
        st.page_link("pages/export.py", label="Write the pruned checkpoint")
        st.button("Load another model or text", on_click=open_choice)


with framed("overview") as frame:
    main(frame)
