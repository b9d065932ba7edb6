"""Where along the model the residual stream hardly changes, and what would hardly be missed."""

import streamlit as st

from explorer.execution import ModelSummary, View
from ui.analyse import draw_beside, draw_blocks, draw_interactions, draw_layers, draw_measures, draw_passage
from ui.frame import framed, require_summary
from ui.view import linked, one_of

VIEWS = ("Blocks", "Layers", "Measures", "Pairs", "Tokens", "Side by side")


def main(view: View, summary: ModelSummary) -> None:
    shown = st.segmented_control(
        "View",
        VIEWS,
        default=VIEWS[0],
        required=True,
        **linked("view", "redundancy view", VIEWS[0], one_of(VIEWS)),
        label_visibility="collapsed",
    )
    if shown == "Blocks":
        draw_blocks(view, summary)
    elif shown == "Layers":
        draw_layers(view)
    elif shown == "Measures":
        draw_measures(view)
    elif shown == "Pairs":
        draw_interactions(view, summary.n_layers)
    elif shown == "Tokens":
        draw_passage(view, summary)
    else:
        draw_beside(view)


with framed("analyse") as frame:
    main(frame.view, require_summary(frame))
