"""Values under every combination of some factors -> the share of their variance that each factor explains."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from explorer.numerics.intervals import Interval
from explorer.numerics.paired import bootstrap


@dataclass(frozen=True)
class VarianceShare:
    """What one factor explains.

    Args:
        share: of the sum of squares about each unit's mean, in [0, 1]; NaN where there is no variance.
        interval: 95%, by a bootstrap over units; None where there is none.
    """

    share: float
    interval: Interval | None


def share_variance(values: Float64[np.ndarray, "... units"]) -> list[VarianceShare]:
    """Return the main effect of each factor, an axis each before the last, which is that of units.

    The sum over units of the squares of a factor's means about the unit's own mean, over that of all values. What is
    missing to 1 are interactions.
    """
    squares = values - values.mean(axis=tuple(range(values.ndim - 1)), keepdims=True)
    whole = np.square(squares).reshape(-1, values.shape[-1]).sum(axis=0)
    found = []
    for factor in range(values.ndim - 1):
        others = tuple(axis for axis in range(values.ndim - 1) if axis != factor)
        effect = np.square(squares.mean(axis=others)).sum(axis=0) * (squares[..., 0].size // values.shape[factor])
        found.append(_share(effect, whole))
    return found


def _share(effect: Float64[np.ndarray, " units"], whole: Float64[np.ndarray, " units"]) -> VarianceShare:
    if not whole.any():
        return VarianceShare(math.nan, None)

    def find(rows: np.ndarray) -> float:
        total = whole[rows].sum()
        return float(effect[rows].sum() / total) if total else math.nan

    return VarianceShare(find(np.arange(len(whole))), bootstrap(len(whole), find)[1])
