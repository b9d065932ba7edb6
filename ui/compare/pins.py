"""Pinned configurations: up to eight, with all that Compare shows of them; the browser keeps them over a reload."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import streamlit as st
from pydantic import Field

from explorer.errors import ExplorerError
from explorer.evaluation import Score
from explorer.execution import ModelSummary, Recovery
from explorer.masks import Mask
from explorer.model import Costs
from explorer.read_back import read_back
from ui.browser import read_scripts
from ui.explore import ask_recovery, find_recovery
from ui.live import get_engine, get_owner, rerun_panels, watch
from ui.view import describe_view, get_view

MOST = 8
_FORMAT = 2  # of what is written; a later one is refused; 1 had nothing recovered
_MOST_CHARACTERS = 10**6  # of what a browser may bring back

_keeper = st.components.v2.component("pins", html="<span hidden></span>", js=read_scripts("pins"))


@dataclass(frozen=True)
class Pin:
    """A configuration and its numbers, as they were when it was pinned.

    Args:
        link: the URL parameters of its view.
        layers: L.
        perplexity, low, high: with the interval, if there is one.
        difference, difference_low, difference_high: nats a token against the unpruned model.
        parameters, kv_bytes, flops: the costs, a token.
        texts: pairs of prompt and text, of the recovered model where there is one.
        overflow: in words, where the model's arithmetic overflowed.
        recovered, recovered_low, recovered_high: the recovered model's perplexity, if its link recovers.
        share, share_low, share_high: of the lost nats, that was won back.
        fitted_on: what the recovered model was fitted on, in words.
    """

    link: dict[str, str]
    layers: Annotated[int, Field(ge=1, le=9999)]
    perplexity: float
    low: float | None
    high: float | None
    difference: float
    difference_low: float | None
    difference_high: float | None
    parameters: int
    kv_bytes: float
    flops: float
    texts: tuple[tuple[str, str], ...] = ()
    overflow: str = ""
    recovered: float | None = None
    recovered_low: float | None = None
    recovered_high: float | None = None
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None
    fitted_on: str = ""

    @property
    def mask(self) -> Mask:
        """What is off."""
        return Mask.parse(self.link["mask"])

    @classmethod
    def of(
        cls,
        link: dict[str, str],
        layers: int,
        score: Score,
        costs: Costs,
        texts: list[tuple[str, str]],
        recovery: Recovery | None = None,
    ) -> Pin:
        """Pin a scored view, with what was recovered of it."""
        low, high = score.perplexity_ci95 or (None, None)
        least, most = score.delta_ci95 or (None, None)
        difference = math.inf if math.isnan(score.delta_nll_per_token) else score.delta_nll_per_token
        numbers = (score.perplexity, low, high, difference, least, most)
        parameters = costs.parameters + (recovery.parameters_added if recovery else 0)
        needs = (parameters, costs.kv_bytes_per_token, costs.flops_per_token)
        more = _describe_recovery(recovery) if recovery else {}
        return cls(link, layers, *numbers, *needs, tuple(texts), str(score.overflow or ""), **more)

    @classmethod
    def read(cls, found: Any) -> Pin:
        """Read what a browser brings back, which may be anything. Raises ValueError or MaskError."""
        pin = read_back(cls, found, _FORMAT)
        if "mask" not in pin.link:
            raise ValueError("its link has no mask")
        pin.mask.checked(pin.layers)
        return pin

    def describe(self) -> dict[str, Any]:
        """Return the pin as what JSON holds: a perplexity beyond numbers is the largest there is."""
        entry = {"format": _FORMAT, **asdict(self)}
        return {k: min(v, 1e308) if isinstance(v, float) and math.isinf(v) else v for k, v in entry.items()}


def _describe_recovery(found: Recovery) -> dict[str, Any]:
    low, high = found.score.perplexity_ci95 or (None, None)
    share_low, share_high = found.recovered.interval or (None, None)
    return {
        "recovered": found.score.perplexity,
        "recovered_low": low,
        "recovered_high": high,
        "share": None if math.isnan(found.recovered.share) else found.recovered.share,
        "share_low": share_low,
        "share_high": share_high,
        "fitted_on": f"{found.tokens:,} tokens of {found.fitted_on}",
    }


def read_pins(text: str) -> list[Pin]:
    """Read the pins that a browser kept; what is none is left out."""
    try:
        found = json.loads(text) if len(text) <= _MOST_CHARACTERS else []
    except (ValueError, RecursionError):
        return []
    pins = []
    for entry in found if isinstance(found, list) else []:
        try:
            pins.append(Pin.read(entry))
        except (ValueError, ExplorerError):
            continue
    return pins[:MOST]


def get_pins() -> list[Pin]:
    """Return this session's pins."""
    return list(st.session_state.get("pins") or [])


def remove_pin(index: int) -> None:
    """Take a pin away."""
    st.session_state.pins = [pin for number, pin in enumerate(get_pins()) if number != index]


def keep_pins() -> None:
    """Draw what keeps the pins in the browser and, in a new session, brings them back. It has no looks."""
    pins = st.session_state.get("pins")

    def bring_back() -> None:
        stored = st.session_state["pins_keeper"]["stored"]
        if st.session_state.get("pins") is None and stored:
            st.session_state.pins = read_pins(stored)
            rerun_panels("pins", "comparison")  # the message may have come with another panel's, whose run this is

    _keeper(
        key="pins_keeper",
        data={"pins": None if pins is None else json.dumps([pin.describe() for pin in pins])},
        default={"stored": None},
        on_stored_change=bring_back,
        height="content",
    )


def draw_pinning(summary: ModelSummary) -> None:
    """Draw the button that pins what is set, and the ways on from here."""
    view = get_view()
    score = watch(get_engine().score(get_owner(), view), states_only=True)
    ask_recovery(view, states_only=True)
    recovery = find_recovery(view)
    known = score.state == "done" and (recovery is not None or not view.recovers)
    pins = get_pins()
    pinned = any(pin.link == describe_view(view) for pin in pins)

    def pin() -> None:
        texts = st.session_state.get("texts", {}).get(view, [])
        costs = summary.cost_model.costs(view.mask, summary.window)
        made = Pin.of(describe_view(view), summary.n_layers, score.result, costs, texts, recovery)
        st.session_state.pins = [*get_pins(), made]

    full = pinned or len(pins) >= MOST
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.button("Pin this", key="pin", on_click=pin, disabled=full or not known)
        st.text(f"{len(pins)} of {MOST} pinned")
        st.page_link("pages/compare.py", label="Compare")
        st.page_link("pages/export.py", label="Export this")
        keep_pins()
