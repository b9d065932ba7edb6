"""What there is to know of the model and the text that are loaded."""

from __future__ import annotations

import streamlit as st

from explorer.execution import ModelSummary
from explorer.masks import NONE
from ui.parts import define, describe_bytes, describe_flops, escape_markdown


def draw_facts(summary: ModelSummary) -> None:
    """Draw them as a table, and under it what a user should know of the files."""
    costs = summary.cost_model.costs(NONE, summary.window)
    facts = {
        "Architecture": summary.architecture,
        "Layers": str(summary.n_layers),
        "Parameters": f"{costs.parameters:,}",
        "Weights": f"{describe_bytes(costs.bytes)} in {summary.precision}",
        "KV cache per token": describe_bytes(costs.kv_bytes_per_token),
        "FLOPs per token": f"{describe_flops(costs.flops_per_token)} at a context of {summary.window}",
        "Text": _describe_text(summary),
        "Windows": summary.protocol,
    }
    st.dataframe({"": list(facts), "value": list(facts.values())}, hide_index=True, width="stretch")
    st.caption(define("window", "calibration", "held-out", "KV cache bytes", "FLOPs per token"))
    for notice in summary.notices:
        st.caption(escape_markdown(f"Note: {notice}"))


def _describe_text(summary: ModelSummary) -> str:
    calibration = f"{summary.calibration_tokens:,} calibration"
    held_out = f"{summary.held_out_tokens:,} held-out tokens"
    if summary.calibration_text == summary.text:
        return f"{summary.text}: {calibration} and {held_out}"
    return f"{summary.text}: {held_out}; {summary.calibration_text}: {calibration} tokens"
