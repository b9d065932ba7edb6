"""Turn layers, attention and MLPs off; read what it costs and what the model then writes."""

from dataclasses import replace

import streamlit as st

from explorer.masks import NONE, Mask
from ui.engine import Facts, View
from ui.figures import describe_bytes, describe_flops
from ui.frame import Frame, framed, require_facts
from ui.readout import draw_readout
from ui.samples import draw_samples
from ui.session import get_engine, get_owner, get_view, set_view
from ui.strip import draw_strip
from ui.waiting import follow


def main(frame: Frame, facts: Facts) -> None:
    left, right = st.columns([2, 3], gap="large")
    with left, st.container(key="readout"):
        draw_readout(frame.score_job, "Perplexity")
    with right, st.container(key="costs"):
        _draw_costs(facts, frame.view.mask)
    with st.container(key="toggles"):
        measured = get_engine().redundancy(get_owner(), frame.view)
        found = measured.result if measured.state == "done" else None
        draw_strip(facts.n_layers, frame.view.mask, found, _take_mask)
        follow([measured], lambda: None)  # the colours come when it is done
        _draw_reset(frame.view)
    with st.container(key="samples"):
        draw_samples(frame.view, facts)


def _take_mask(mask: Mask) -> None:
    set_view(replace(get_view(), mask=mask))


def _draw_costs(facts: Facts, mask: Mask) -> None:
    before, after = (facts.inventory.costs(m, facts.window) for m in (NONE, mask))
    rows = {
        "Parameters": (f"{before.parameters:,}", f"{after.parameters:,}", before.parameters, after.parameters),
        f"Weights, {facts.precision}": (
            describe_bytes(before.bytes),
            describe_bytes(after.bytes),
            before.bytes,
            after.bytes,
        ),
        "KV cache per token": (
            describe_bytes(before.kv_bytes_per_token),
            describe_bytes(after.kv_bytes_per_token),
            before.kv_bytes_per_token,
            after.kv_bytes_per_token,
        ),
        f"FLOPs per token, context {facts.window}": (
            describe_flops(before.flops_per_token),
            describe_flops(after.flops_per_token),
            before.flops_per_token,
            after.flops_per_token,
        ),
    }
    st.dataframe(
        {
            "": list(rows),
            "before": [row[0] for row in rows.values()],
            "after": [row[1] for row in rows.values()],
            "saved": [f"{1 - row[3] / row[2]:.1%}" for row in rows.values()],
        },
        hide_index=True,
        width="stretch",
    )


def _draw_reset(view: View) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.text(f"Removed: {view.mask}")
        st.button("Keep everything", disabled=not view.mask, on_click=_take_mask, args=(NONE,))
        st.page_link("pages/export.py", label="Export this")


with framed("prune") as frame:
    main(frame, require_facts(frame))
