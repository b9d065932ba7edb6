"""A mask -> its cuts: runs of sites that are off, in the order of the stream, and what is kept before each."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.masks import PARTS, Mask, Site


@dataclass(frozen=True)
class Cut:
    """A run of sites that are off.

    Args:
        before: the kept site before it; None where the run begins the model.
        after: the site after it; the attention of layer L where it ends the model.
    """

    before: Site | None
    after: Site


def list_cuts(mask: Mask, n_layers: int) -> list[Cut]:
    """List the cuts of a mask, from the first layer to the last."""
    order = [Site(layer, part) for layer in range(n_layers) for part in PARTS]
    order.append(Site(n_layers, "attention"))
    cuts: list[Cut] = []
    for before, site in zip([None, *order], order, strict=False):
        if site in mask.sites and before not in mask.sites:
            after = next(later for later in order[order.index(site) :] if later not in mask.sites)
            cuts.append(Cut(before, after))
    return cuts
