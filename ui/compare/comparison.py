"""Pins side by side: their masks as thumbnails, numbers with intervals, texts in columns."""

from __future__ import annotations

from typing import Any

import streamlit as st

from ui.browser import read, read_scripts
from ui.compare.pins import Pin, get_pins, keep_pins, remove_pin
from ui.parts import define, describe_bytes, describe_flops, describe_perplexity
from ui.prune import write_cells
from ui.view import get_question, get_view, read_view, show_linked, write_url

_comparison = st.components.v2.component(
    "comparison", html='<div class="comparison"></div>', css=read("comparison.css"), js=read_scripts("comparison")
)


def draw_comparison() -> None:
    """Draw the pins as columns of one table, each with a way back to it and a way out."""
    pins = get_pins()
    if pins:
        prompts = list(dict.fromkeys(prompt for pin in pins for prompt, _ in pin.texts))
        _comparison(
            key="comparison",
            data={"pins": [describe_pin(pin, prompts) for pin in pins], "prompts": prompts},
            on_remove_change=lambda: remove_pin(int(st.session_state["comparison"]["remove"])),
            on_open_change=lambda: _open(pins, int(st.session_state["comparison"]["open"])),
        )
        st.caption(define("mask", "interval", "nat", "KV cache bytes", "FLOPs per token"))
    else:
        st.text("Nothing is pinned. On the Prune page, Pin this puts a configuration here.")
        st.page_link("pages/prune.py", label="Prune")
    keep_pins()


def describe_pin(pin: Pin, prompts: list[str]) -> dict[str, Any]:
    """Describe a pin in words; of the prompts that it has no text for it says nothing."""
    texts = dict(pin.texts)
    difference = "–" if pin.overflow else f"{pin.difference:+.4f}"
    if pin.difference_low is not None and pin.difference_high is not None:
        difference += f" [{pin.difference_low:+.4f}, {pin.difference_high:+.4f}]"
    interval = ""
    if pin.low is not None and pin.high is not None:
        interval = f"{describe_perplexity(pin.low)} to {describe_perplexity(pin.high)}"
    return {
        "cells": write_cells(pin.mask, pin.layers),
        "perplexity": pin.overflow or describe_perplexity(pin.perplexity),
        "rows": [
            ("Removed", str(pin.mask)),
            ("Model", pin.link.get("model", "")),
            ("Text", pin.link.get("text", "")),
            ("95% interval", interval),
            ("Difference, nats a token", difference),
            ("Parameters", f"{pin.parameters:,}"),
            ("Weights, 16 bits", describe_bytes(2 * pin.parameters)),
            ("KV cache per token", describe_bytes(pin.kv_bytes)),
            ("FLOPs per token", describe_flops(pin.flops)),
        ],
        "texts": [texts.get(prompt, "") for prompt in prompts],
    }


def _open(pins: list[Pin], index: int) -> None:
    show_linked(*read_view(pins[index].link))
    if get_question() is None:
        write_url(get_view())
    st.session_state.go_to = "prune"
    st.rerun()
