"""What pairs of layers cost beyond each alone, as far as the Analyse page has scored them: for rough numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from explorer.evaluation import Score
from explorer.measures import Interactions


def describe_pairs(found: Interactions | None, alone: Sequence[Score | None]) -> list[list[float | None]] | None:
    """Describe pairs of layers, a row for each with itself and those above it; None for what is not known.

    Args:
        found: pairs of layers.
        alone: scores of all single sites, attention first. A layer with itself is what it costs beyond both of them.
    """
    if found is None:
        return None
    n_layers = len(found.units)
    damages = [None if score is None else score.delta_nll_per_token for score in alone]
    rows: list[list[float | None]] = []
    for layer, beyond in enumerate(found.pairs):
        attention, mlp = damages[layer], damages[n_layers + layer]
        known = attention is not None and mlp is not None
        own = float(found.leave_one_out[layer]) - (attention or 0.0) - (mlp or 0.0)
        rows.append([_read(own) if known else None, *(_read(float(each)) for each in beyond[layer + 1 :])])
    return rows


def _read(nats: float) -> float | None:
    return round(nats, 4) if np.isfinite(nats) else None
