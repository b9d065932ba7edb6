"""Rankings of the same layers -> how far they agree: between measures, and between texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of n rankings of the same layers.

    Args:
        spearman: (n, n) Spearman's rho.
        kendall: (n, n) Kendall's tau-b.
    """

    spearman: np.ndarray
    kendall: np.ndarray


def correlate(rankings: Sequence[np.ndarray]) -> Agreement:
    """Correlate rankings (L,), each from low to high; NaN where one is constant."""
    from scipy.stats import kendalltau, rankdata

    ranks = np.stack([rankdata(row) for row in rankings])
    with np.errstate(divide="ignore", invalid="ignore"):
        spearman = np.atleast_2d(np.corrcoef(ranks))
    kendall = np.empty_like(spearman)
    for i in range(len(rankings)):
        for j in range(i + 1):
            kendall[i, j] = kendall[j, i] = kendalltau(rankings[i], rankings[j]).statistic
    return Agreement(spearman, kendall)
