"""The same items answered twice -> how far apart the two are, and whether that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from explorer.numerics.intervals import Interval

_DRAWS = 1000  # of a bootstrap


@dataclass(frozen=True)
class PairedDifference:
    """After minus before, over the same items.

    Args:
        value: the difference.
        interval: 95%; None with fewer than two items, or where something is not finite.
    """

    value: float
    interval: Interval | None

    @property
    def seen(self) -> bool:
        """Whether the difference is more than chance: its interval leaves 0 out."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


def share_interval(successes: int, n: int) -> Interval:
    """95% interval of a share, by Wilson's score (Journal of the American Statistical Association 22, 1927)."""
    from scipy.special import ndtri

    z = float(ndtri(0.975))
    share, weight = successes / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def exceeds(successes: int, n: int, chance: float) -> bool:
    """Tell whether a share is above chance: one-sided exact binomial test, 5%."""
    from scipy.special import bdtrc

    return float(bdtrc(successes - 1, n, chance)) < 0.05 if successes else False


def compare_shares(before: Bool[np.ndarray, " samples"], after: Bool[np.ndarray, " samples"]) -> PairedDifference:
    """Compare the shares of right answers, with the interval that belongs to McNemar's exact test.

    Only items that changed tell anything: of those that did, the share that got better has Clopper and Pearson's
    interval, which leaves out one half where McNemar's test (Psychometrika 12, 1947) says so at 5%. Where none changed,
    as many may have as the interval of 0 of n holds.
    """
    from scipy.special import betaincinv

    n, better, worse = len(before), int((after & ~before).sum()), int((before & ~after).sum())
    changed = better + worse
    if n < 2:
        return PairedDifference((better - worse) / n, None)
    if not changed:
        most = 1 - 0.025 ** (1 / n)
        return PairedDifference(0.0, (-most, most))
    low = float(betaincinv(better, worse + 1, 0.025)) if better else 0.0
    high = float(betaincinv(better + 1, worse, 0.975)) if worse else 1.0
    return PairedDifference((better - worse) / n, (changed / n * (2 * low - 1), changed / n * (2 * high - 1)))


def find_mcnemar_p(before: Bool[np.ndarray, " samples"], after: Bool[np.ndarray, " samples"]) -> float:
    """Return the two-sided p-value of McNemar's exact test."""
    from scipy.special import bdtr

    better, worse = int((after & ~before).sum()), int((before & ~after).sum())
    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5))) if better + worse else 1.0


def bootstrap(
    n: int, statistic: Callable[[Int64[np.ndarray, " samples"]], float], seed: int = 0
) -> tuple[float, Interval | None]:
    """Return the standard error and the 95% percentile interval of a statistic over n items, resampled.

    Args:
        n: how many items there are.
        statistic: given the numbers of some items, one as often as it was drawn.
        seed: of the draws.

    Returns:
        NaN and None with fewer than two items, or where a draw is not finite.
    """
    draw = np.random.default_rng(seed)
    found = np.array([statistic(draw.integers(n, size=n)) for _ in range(_DRAWS)]) if n > 1 else np.array([math.nan])
    if not np.isfinite(found).all():
        return math.nan, None
    low, high = np.quantile(found, (0.025, 0.975))
    return float(found.std(ddof=1)), (float(low), float(high))
