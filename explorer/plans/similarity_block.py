"""Similarity block: for every size the contiguous layers over which the residual stream turns least."""

from __future__ import annotations

import math
from collections.abc import Iterator

from explorer.masks import NONE, Mask
from explorer.plans.method import Method, Planner


def _choose(planner: Planner) -> tuple[Mask, ...]:
    return planner.follow(_find_blocks(planner))


def _find_blocks(planner: Planner) -> Iterator[Mask]:
    """Yield the block of every size with the least angular distance of the last token (Gromov et al.)."""
    found = planner.similarity(NONE)
    yield NONE
    for size, distances in enumerate(found.angular_distance("last_token"), 1):
        free = [at for at in range(len(distances)) if not planner.protected & {*range(at, at + size)}]
        starts = [at for at in free if math.isfinite(distances[at])]
        if not starts:
            return
        best = min(starts, key=distances.__getitem__)
        yield Mask.of_layers(range(best, best + size))


SIMILARITY_BLOCK = Method(
    "similarity-block", "Similarity block", "Gromov et al., arXiv:2403.17887", ("layer",),
    _choose, "hidden states", "one pass",
)  # fmt: skip
