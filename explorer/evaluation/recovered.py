"""Scores of a mask and of the same with deltas -> the share of the lost nats that was won back. Knows no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from explorer.evaluation.scores import Score
from explorer.numerics import Interval, jackknife, t_interval


@dataclass(frozen=True)
class Recovered:
    """How much of what a mask costs was won back: 1 is all, 0 nothing; below 0 it was made worse.

    Args:
        share: of the nats lost on all windows; NaN where none were lost, or the arithmetic overflowed.
        interval: 95%, paired over windows: a t-interval of the jackknife's pseudo-values.
    """

    share: float
    interval: Interval | None


def find_recovered(pruned: Score, modified: Score) -> Recovered:
    """Compare a variant with its mask alone, both scored on the same windows."""
    lost, won = pruned.nll - pruned.baseline, pruned.nll - modified.nll
    if not np.isfinite([lost, won]).all() or math.fsum(lost) <= 0:
        return Recovered(math.nan, None)

    def find_share(chosen: Bool[np.ndarray, " windows"]) -> Float64[np.ndarray, " 1"]:
        return won[chosen].sum(keepdims=True) / lost[chosen].sum(keepdims=True)

    if len(lost) < 2:
        return Recovered(float(won.sum() / lost.sum()), None)
    value, pseudo = jackknife(len(lost), find_share)
    return Recovered(float(value[0]), t_interval(pseudo[:, 0]))
