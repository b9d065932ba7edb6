"""Pins side by side: their masks as thumbnails, numbers with intervals, texts in columns."""

from __future__ import annotations

from typing import Any

import streamlit as st

from ui.browser import read, read_scripts
from ui.compare.pins import Pin, get_pins, keep_pins, remove_pin
from ui.explore import write_cells
from ui.parts import define, describe_bytes, describe_flops, describe_perplexity
from ui.view import get_question, get_view, read_view, show_linked, write_url

_comparison = st.components.v2.component(
    "comparison", html='<div class="comparison"></div>', css=read("comparison.css"), js=read_scripts("comparison")
)


def draw_comparison() -> None:
    """Draw the pins as columns of one table, each with a way back to it and a way out."""
    pins = get_pins()
    if pins:
        prompts = list(dict.fromkeys(prompt for pin in pins for prompt, _ in pin.texts))
        recovers = any("modify" in pin.link for pin in pins)
        _comparison(
            key="comparison",
            data={
                "label": "Perplexity, pruned" if recovers else "Perplexity",
                "pins": [describe_pin(pin, prompts, recovers) for pin in pins],
                "prompts": prompts,
            },
            on_remove_change=lambda: remove_pin(int(st.session_state["comparison"]["remove"])),
            on_open_change=lambda: _open(pins, int(st.session_state["comparison"]["open"])),
        )
        st.caption(define("mask", "interval", "nat", "recovered", "modifier", "KV cache bytes", "FLOPs per token"))
    else:
        st.text("Nothing is pinned. On the Explore page, Pin this puts a configuration here.")
        st.page_link("pages/explore.py", label="Explore")
    keep_pins()


def describe_pin(pin: Pin, prompts: list[str], recovers: bool = False) -> dict[str, Any]:
    """Describe a pin in words; of the prompts that it has no text for it says nothing.

    Args:
        recovers: whether any of the pins beside it recovers something.
    """
    texts = dict(pin.texts)
    difference = "–" if pin.overflow else f"{pin.difference:+.4f}"
    if pin.difference_low is not None and pin.difference_high is not None:
        difference += f" [{pin.difference_low:+.4f}, {pin.difference_high:+.4f}]"
    return {
        "cells": write_cells(pin.mask, pin.layers),
        "perplexity": pin.overflow or describe_perplexity(pin.perplexity),
        "rows": [
            ("Removed", str(pin.mask)),
            ("Model", pin.link.get("model", "")),
            ("Text", pin.link.get("text", "")),
            ("95% interval", _describe_interval(pin.low, pin.high)),
            ("Difference, nats a token", difference),
            *(_describe_recovered(pin) if recovers else []),
            ("Parameters", f"{pin.parameters:,}"),
            ("Weights, 16 bits", describe_bytes(2 * pin.parameters)),
            ("KV cache per token", describe_bytes(pin.kv_bytes)),
            ("FLOPs per token", describe_flops(pin.flops)),
        ],
        "texts": [texts.get(prompt, "") for prompt in prompts],
    }


def _describe_recovered(pin: Pin) -> list[tuple[str, str]]:
    """Describe what was recovered; a dash where nothing was."""
    share = "–" if pin.share is None else f"{pin.share:.1%}"
    if pin.share is not None and pin.share_low is not None and pin.share_high is not None:
        share += f" [{pin.share_low:.1%}, {pin.share_high:.1%}]"
    return [
        ("Recovered by", pin.link.get("modify", "–")),
        ("Fitted on", pin.fitted_on or "–"),
        ("Perplexity, recovered", "–" if pin.recovered is None else describe_perplexity(pin.recovered)),
        ("95% interval, recovered", _describe_interval(pin.recovered_low, pin.recovered_high)),
        ("Lost nats won back", share),
    ]


def _describe_interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{describe_perplexity(low)} to {describe_perplexity(high)}"


def _open(pins: list[Pin], index: int) -> None:
    show_linked(*read_view(pins[index].link))
    if get_question() is None:
        write_url(get_view())
    st.session_state.go_to = "explore"
    st.rerun()
