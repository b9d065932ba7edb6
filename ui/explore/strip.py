"""The instrument in the browser: triangle, strip of 2 x L switches, slider, curve, readout, meter as one component."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.masks import PARTS, Mask, Site
from ui import session
from ui.browser import read, read_scripts

_instrument = st.components.v2.component(
    "instrument",
    html=read("instrument.html"),
    css=read("instrument.css"),
    js=read_scripts("tab", "values", "cells", "blocks", "readout", "meter", "curve", "history", "tour", "instrument"),
)


@dataclass(frozen=True, kw_only=True)
class Strip:
    """The mask that the strip has.

    Args:
        mask: the mask; None before it was drawn.
        revision: how often the mask was another than the strip's.
    """

    mask: Mask | None = None
    revision: int = 0


def draw_strip(
    n_layers: int,
    mask: Mask,
    data: dict[str, Any],
    on_mask: Callable[[Mask], None],
    on_decode_speed: Callable[[], None],
) -> None:
    """Draw the instrument and tell `on_mask` the mask after each gesture.

    The truth is the mask given here. The strip takes it when its revision is newer than the one it has, and never in
    mid-gesture. Where a gesture was made before a mask from here was there, the strip takes that of the gesture again.

    Args:
        n_layers: L.
        mask: what is off.
        data: what the browser shows without asking, see `ui.explore.instrument`.
        on_mask: told the new mask, in a callback.
        on_decode_speed: told that decoding is to be timed, in a callback.
    """
    strip = session.read(Strip)
    if strip.mask != mask:
        strip = session.change(Strip, mask=mask, revision=strip.revision + 1)

    def changed() -> None:
        off = st.session_state["strip"]["off"]
        if off is not None:
            revision, found = session.read(Strip).revision, read_cells(off["cells"], n_layers)
            session.change(Strip, mask=found, revision=revision + (off["revision"] != revision))
            on_mask(found)

    _instrument(
        key="strip",
        data={"layers": n_layers, "off": write_cells(mask, n_layers), "revision": strip.revision, **data},
        default={"off": None},
        on_off_change=changed,
        on_decode_speed_change=on_decode_speed,
    )


def write_cells(mask: Mask, n_layers: int) -> str:
    """Write a mask as one character a cell, `1` off: attention of layers 0.., then MLP of layers 0... ."""
    return "".join(str(int(Site(layer, part) in mask.sites)) for part in PARTS for layer in range(n_layers))


def read_cells(cells: str, n_layers: int) -> Mask:
    """Read what `write_cells` wrote."""
    return Mask(
        frozenset(
            Site(index % n_layers, PARTS[index // n_layers])
            for index, cell in enumerate(cells[: 2 * n_layers])
            if cell == "1"
        )
    )


def list_changes(masks: tuple[Mask, ...], n_layers: int) -> list[list[int]]:
    """List the cells that each mask flips against the one before, the first against nothing."""
    return [
        sorted(PARTS.index(site.part) * n_layers + site.layer for site in after.sites ^ before.sites)
        for before, after in zip((Mask(), *masks), masks, strict=False)
    ]
