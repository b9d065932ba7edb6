"""The layer strip: the model as 2 x L cells, attention above, MLP below, each a switch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st

from explorer.charts import shade
from explorer.masks import PARTS, Mask, Site
from explorer.records import Redundancy

_FOLDER = Path(__file__).parent
_strip = st.components.v2.component(
    "layer_strip",
    html='<div class="strip" role="group" aria-label="Layers. Arrow keys move, space toggles."></div>',
    css=(_FOLDER / "strip.css").read_text(encoding="utf-8"),
    js=(_FOLDER / "strip.js").read_text(encoding="utf-8"),
)


def draw_strip(n_layers: int, mask: Mask, found: Redundancy | None, on_change: Callable[[Mask], None]) -> None:
    """Draw the strip and tell `on_change` the mask after each gesture.

    The truth is the mask given here. The strip takes it when its revision is newer than what the strip itself
    last sent, and never in mid-gesture.

    Args:
        n_layers: L.
        mask: what is off.
        found: what colours the cells, bright for redundant; None leaves them plain.
        on_change: told the new mask, in a callback.
    """
    state = st.session_state
    if state.get("strip_mask") != mask:
        state.strip_mask = mask
        state.strip_revision = state.get("strip_revision", 0) + 1

    def changed() -> None:
        off = state["strip"]["off"]
        if off is not None:
            state.strip_mask = read_cells(off, n_layers)
            on_change(state.strip_mask)

    _strip(
        key="strip",
        data={
            "layers": n_layers,
            "off": write_cells(mask, n_layers),
            "revision": state.strip_revision,
            **_colours(found, n_layers),
        },
        default={"off": None},
        on_off_change=changed,
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


def _colours(found: Redundancy | None, n_layers: int) -> dict[str, Any]:
    if found is None:
        return {"colours": None, "notes": None}
    values = np.concatenate([found.block_influence(part) for part in PARTS])
    return {"colours": shade(values), "notes": [f"block influence {value:.4f}" for value in values]}
