"""Independent samples -> the interval of their mean."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

Interval = tuple[float, float]


def t_interval(samples: Float[np.ndarray, " samples"]) -> Interval | None:
    """95% t-interval of the mean of independent samples; None with fewer than two, or with one not finite."""
    from scipy.special import stdtrit  # takes a fifth of a second to import

    n = len(samples)
    if n < 2 or not np.isfinite(samples).all():
        return None
    mean = float(samples.mean())
    half = float(stdtrit(n - 1, 0.975) * samples.std(ddof=1) / math.sqrt(n))
    return mean - half, mean + half
