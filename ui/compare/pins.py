"""Pins, which earlier versions kept in the browser: read, to be starred; those of other models wait where they are."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import streamlit as st
from pydantic import Field

from explorer.errors import ExplorerError
from explorer.masks import Mask
from explorer.read_back import read_back
from ui import session
from ui.browser import read_scripts
from ui.live import rerun_panels

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
    return pins


@dataclass(frozen=True, kw_only=True)
class Pins:
    """The pins that were brought back and not starred yet; None where the browser was not heard yet."""

    waiting: tuple[Pin, ...] | None = None


def get_pins() -> tuple[Pin, ...] | None:
    """Return the pins that were brought back and not starred yet; None where the browser was not heard yet."""
    return session.read(Pins).waiting


def set_pins(pins: Sequence[Pin]) -> None:
    """Have the browser keep these."""
    session.change(Pins, waiting=tuple(pins))


def draw_keeper() -> None:
    """Draw what brings back the pins that the browser kept, and keeps those that wait. It has no looks."""
    pins = get_pins()

    def bring_back() -> None:
        stored = st.session_state["pins_keeper"]["stored"]
        if get_pins() is None and stored:
            set_pins(read_pins(stored))
            rerun_panels("pins", "comparison")  # the message may have come with another panel's, whose run this is

    _keeper(
        key="pins_keeper",
        data={"pins": None if pins is None else json.dumps([pin.describe() for pin in pins])},
        default={"stored": None},
        on_stored_change=bring_back,
        height="content",
    )
