"""Rankings of the same layers -> how far they agree: between measures, and between texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Real


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of rankings of the same layers.

    Args:
        spearman: Spearman's rho.
        kendall: Kendall's tau-b.
    """

    spearman: Float64[np.ndarray, "rankings rankings"]
    kendall: Float64[np.ndarray, "rankings rankings"]


def correlate(rankings: Sequence[Real[np.ndarray, " layers"]]) -> Agreement:
    """Correlate rankings, each from low to high; NaN where one is constant."""
    from scipy.stats import kendalltau, rankdata

    ranks = np.stack([rankdata(row) for row in rankings])
    with np.errstate(divide="ignore", invalid="ignore"):
        spearman = np.atleast_2d(np.corrcoef(ranks))
    kendall = np.empty_like(spearman)
    for i in range(len(rankings)):
        for j in range(i + 1):
            kendall[i, j] = kendall[j, i] = kendalltau(rankings[i], rankings[j]).statistic
    return Agreement(spearman, kendall)
