"""A mask -> the places where something could stand in for what is off."""

from __future__ import annotations

from explorer.masks import Mask


def list_places(mask: Mask) -> list[Mask]:
    """List what is off as runs of whole layers, and single sites of layers that stay, in the order of the stream.

    What stands in for a run reads the residual stream before its first layer; what stands in for a site reads what the
    site's module would.
    """
    runs: list[list[int]] = []
    for layer in sorted(mask.whole_layers):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    alone = [Mask(frozenset({site})) for site in mask.sites if site.layer not in mask.whole_layers]
    return sorted([*map(Mask.of_layers, runs), *alone], key=lambda place: min(place.sites))
