"""Tokens a second, of several runs. Knows no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from explorer.numerics import Interval


@dataclass(frozen=True)
class TokenRate:
    """Tokens a second, over all texts at once.

    Args:
        median: of the runs.
        interval: the least and the largest of them.
    """

    median: float
    interval: Interval

    @classmethod
    def of(cls, rates: Sequence[float]) -> TokenRate:
        """Describe runs."""
        return cls(median(rates), (min(rates), max(rates)))
