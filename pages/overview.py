"""Which model, on which text; what it costs as it is; what to do next."""

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from explorer.execution import ModelSummary, View
from explorer.masks import NONE
from explorer.model import find_faults
from ui.frame import Frame, framed, offer_way_back
from ui.live import get_engine, get_owner, ready
from ui.overview import draw_readout
from ui.parts import define, describe_bytes, describe_flops, draw_skeleton, escape_markdown
from ui.view import MOST_TOKENS, draw_fault, get_permissions, refuse, request_view


def main(frame: Frame) -> None:
    left, right = st.columns([3, 2], gap="large")
    with left:
        if ready(frame.facts_job):
            _draw_facts(frame.view, frame.facts_job.result)
        elif frame.facts_job.state == "failed":
            offer_way_back()
        elif frame.facts_job.active:
            draw_skeleton(frame.page)
    with right:
        _draw_form(frame.view)


def _draw_facts(view: View, summary: ModelSummary) -> None:
    with st.container(key="readout"):
        unpruned = get_engine().score(get_owner(), replace(view, mask=NONE), "unpruned")
        draw_readout(unpruned, "Perplexity of the whole model")
    costs = summary.cost_model.costs(NONE, summary.window)
    st.dataframe(
        {
            "": [
                "Architecture",
                "Layers",
                "Parameters",
                "Weights",
                "KV cache per token",
                "FLOPs per token",
                "Text",
                "Windows",
            ],
            "value": [
                summary.architecture,
                str(summary.n_layers),
                f"{costs.parameters:,}",
                f"{describe_bytes(costs.bytes)} in {summary.precision}",
                describe_bytes(costs.kv_bytes_per_token),
                f"{describe_flops(costs.flops_per_token)} at a context of {summary.window}",
                _describe_text(summary),
                summary.protocol,
            ],
        },
        hide_index=True,
        width="stretch",
    )
    st.caption(define("window", "calibration", "held-out", "KV cache bytes", "FLOPs per token"))
    for notice in summary.notices:
        st.caption(escape_markdown(f"Note: {notice}"))
    st.subheader("Next", anchor=False)
    st.page_link("pages/analyse.py", label="See which layers change the residual stream least", help=_STREAM_HELP)
    st.page_link("pages/explore.py", label="Turn layers, attention and MLPs off, and read the perplexity")
    st.page_link("pages/plans.py", label="Compare what every published method removes")
    st.page_link("pages/export.py", label="Write the pruned checkpoint")


def _describe_text(summary: ModelSummary) -> str:
    calibration = f"{summary.calibration_tokens:,} calibration"
    held_out = f"{summary.held_out_tokens:,} held-out tokens"
    if summary.calibration_text == summary.text:
        return f"{summary.text}: {calibration} and {held_out}"
    return f"{summary.text}: {held_out}; {summary.calibration_text}: {calibration} tokens"


def _draw_form(view: View) -> None:
    with st.form("load", border=True):
        st.subheader("Load another", anchor=False)
        model = st.text_input("Model", view.model, help="A hub id, a folder of safetensors, or a .gguf file")
        draw_fault("model")
        text = st.text_input(
            "Text",
            view.text,
            help="python-docs, wikitext2, c4, a file, hf:DATASET:CONFIG:SPLIT:COLUMN or tokens:FILE.json",
        )
        draw_fault("text")
        left, right = st.columns(2)
        tokens = left.number_input(
            "Tokens in each split", 2, MOST_TOKENS, view.tokens, 256, help=define("calibration", "held-out")
        )
        window = right.number_input("Window", 2, MOST_TOKENS, view.window, 64, help=define("window"))
        draw_fault("window")
        dtype = left.selectbox("Precision", DTYPES, _index(DTYPES, view.dtype))
        quantize = right.selectbox("Quantize", QUANTIZATIONS, _index(QUANTIZATIONS, view.quantize), help=_QUANTIZE_HELP)
        draw_fault("dtype", "quantize")
        device = st.text_input("Device", view.device, help="auto, cpu, cuda, cuda:i, or map: spread over all there is")
        draw_fault("device")
        if st.form_submit_button("Load", type="primary"):
            get_engine().worker.forget_failed()
            get_permissions().agree("model", model.strip())
            get_permissions().agree("text", text.strip())
            chosen = replace(
                view,
                model=model.strip(),
                text=text.strip(),
                tokens=int(tokens),
                window=int(window),
                dtype=dtype,
                device=device.strip(),
                quantize=quantize,
            )
            if faults := find_faults(chosen.spec, chosen.text, chosen.tokens, chosen.window):
                refuse(faults)
            else:
                request_view(chosen if chosen.spec == view.spec else replace(chosen, mask=NONE))
            st.rerun()


def _index(options: Sequence[str], chosen: str) -> int:
    return options.index(chosen) if chosen in options else 0


DTYPES = ("auto", "float32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8", "nf4")
_STREAM_HELP = define("residual stream")
_QUANTIZE_HELP = "Weights in 8 bits (LLM.int8) or 4 bits (NF4, double quantization) by bitsandbytes"

with framed("overview") as frame:
    main(frame)
