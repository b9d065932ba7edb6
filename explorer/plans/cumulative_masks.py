"""Units in an order -> what is off after 0, 1, 2 ... of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from explorer.masks import NONE, Mask


def accumulate_masks(removals: Iterable[Mask]) -> Iterator[Mask]:
    """Yield what is off after 0, 1, 2 ... of the removals."""
    mask = NONE
    yield mask
    for removal in removals:
        yield (mask := mask | removal)
