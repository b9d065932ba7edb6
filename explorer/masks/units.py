"""What can be removed at once, each a mask."""

from __future__ import annotations

from collections.abc import Iterable

from explorer.masks.mask import PARTS, Mask, Site


def find_units(n_layers: int, unit: str) -> list[Mask]:
    """List what can be removed, each a mask: layers, attentions, MLPs, or with `site` attentions and MLPs."""
    if unit == "layer":
        return [Mask.of_layers([layer]) for layer in range(n_layers)]
    parts = PARTS if unit == "site" else [part for part in PARTS if part == unit]
    return [Mask(frozenset({Site(layer, part)})) for layer in range(n_layers) for part in parts]


def join(masks: Iterable[Mask]) -> Mask:
    """Turn off what any of them turns off."""
    return Mask(frozenset().union(*(mask.sites for mask in masks)))
