"""Importance: one number for each layer, or for the attention or MLP of each, with its uncertainty. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from explorer.numerics import bootstrap_intervals, resample_means

#: Whether what can go has a low or a high value.
Redundant = Literal["low", "high"]


@dataclass(frozen=True)
class Importance:
    """One number for each layer, or for the attention or MLP of each.

    Args:
        measure: a name in `MEASURES`.
        unit: `layer`, `attention` or `mlp`.
        values: one a layer.
        samples: one row a window, or a draw, or a jackknife pseudo-value of one; None if nothing was drawn.
        redundant: whether what can go has a `low` or a `high` value.
    """

    measure: str
    unit: str
    values: Float64[np.ndarray, " layers"]
    samples: Float64[np.ndarray, "samples layers"] | None = None
    redundant: Redundant = "low"

    @property
    def order(self) -> Int64[np.ndarray, " layers"]:
        """Layers from the most to the least redundant; the first of equals before the others."""
        return self.ranked.argsort(kind="stable")

    @property
    def ranked(self) -> Float64[np.ndarray, " layers"]:
        """The values, turned so that what is redundant is low."""
        return self._towards_redundant(self.values)

    def intervals(self, draws: int = 1000, seed: int = 0) -> Float64[np.ndarray, "layers 2"] | None:
        """95% bootstrap intervals, low and high, widened for few samples; None with fewer than two."""
        if self.samples is None or len(self.samples) < 2:
            return None
        return bootstrap_intervals(self.values, self.samples, draws, seed)

    def rank_stability(self, k: int, draws: int = 1000, seed: int = 0) -> Float64[np.ndarray, " layers"] | None:
        """How often, over resampled texts, each is among the k most redundant, as shares; None as above."""
        if self.samples is None or len(self.samples) < 2:
            return None
        drawn = resample_means(self.values, self.samples, draws, seed)
        ranked = self._towards_redundant(drawn).argsort(axis=1, kind="stable")
        counts = np.bincount(ranked[:, :k].ravel(), minlength=len(self.values))
        return counts / draws

    def _towards_redundant(self, values: Float64[np.ndarray, " *any"]) -> Float64[np.ndarray, " *any"]:
        return -values if self.redundant == "high" else values
