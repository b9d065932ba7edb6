"""[Importance] -> how far rankings agree: between measures, and between texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from explorer.measures.importance import MEASURES, Importance


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of n rankings of the same layers.

    Args:
        spearman: (n, n) Spearman's rho.
        kendall: (n, n) Kendall's tau-b.
    """

    spearman: np.ndarray
    kendall: np.ndarray


def correlate(rankings: Sequence[Importance]) -> Agreement:
    """Correlate rankings by redundancy, whichever way their measures run; NaN where one is constant."""
    from scipy.stats import kendalltau, rankdata

    values = [-each.values if MEASURES[each.measure].redundant == "high" else each.values for each in rankings]
    ranks = np.stack([rankdata(row) for row in values])
    with np.errstate(divide="ignore", invalid="ignore"):
        spearman = np.atleast_2d(np.corrcoef(ranks))
    kendall = np.empty_like(spearman)
    for i in range(len(values)):
        for j in range(i + 1):
            kendall[i, j] = kendall[j, i] = kendalltau(values[i], values[j]).statistic
    return Agreement(spearman, kendall)
