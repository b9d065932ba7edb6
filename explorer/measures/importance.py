"""What can be measured of a layer or site, as data; Importance: one number for each of them, with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["similarity", "damage", "divergence", "gradient", "coalition", "linear", "attention"]

_ALL = ("layer", "attention", "mlp")

_HELD = 1 << 22  # numbers of a bootstrap that are held at once


@dataclass(frozen=True)
class Measure:
    """A way to say how much a layer or site matters.

    Args:
        label: its name on a figure.
        kind: what has to be done for it; measures of one kind come from one pass.
        units: what it can be taken of.
        source: where it is defined.
        redundant: whether what can go has a `low` or a `high` value; None for what only explains.
        unit_of: what the number is in.
    """

    label: str
    kind: Kind
    units: tuple[str, ...]
    source: str
    redundant: Literal["low", "high"] | None = "low"
    unit_of: str = ""


_SIDDIQUI = "Siddiqui et al., arXiv:2407.16286"
_SHORTENED = "Shortened LLaMA, arXiv:2402.02834"
_GROMOV, _SHORTGPT = "Gromov et al., arXiv:2403.17887", "ShortGPT, arXiv:2403.03853"
_NATS = "nats a token"

MEASURES: dict[str, Measure] = {
    "angular-distance": Measure("Angular distance, last token", "similarity", ("layer",), _GROMOV),
    "block-influence": Measure("Block influence", "similarity", _ALL, f"{_SHORTGPT}; LLM-Drop, arXiv:2406.15786"),
    "relative-l1": Measure("Relative L1 of the update", "similarity", _ALL, _SIDDIQUI),
    "relative-l2": Measure("Relative L2 of the update", "similarity", _ALL, _SIDDIQUI),
    "loss": Measure("Loss without it", "damage", _ALL, f"{_SHORTENED}; BlockPruner, arXiv:2406.10594", "low", _NATS),
    "kl": Measure("KL from the unpruned model", "divergence", _ALL, "KL(unpruned || without it)", "low", _NATS),
    "logit-distance": Measure("Logit distance", "divergence", _ALL, _SIDDIQUI),
    "disagreement": Measure("Top-1 disagreement", "divergence", _ALL, "share of other most likely tokens"),
    "taylor": Measure("Taylor", "gradient", _ALL, _SHORTENED),
    "magnitude": Measure("Magnitude", "gradient", _ALL, _SHORTENED),
    "coalition": Measure("Coalition influence", "coalition", _ALL, _SIDDIQUI, "low", _NATS),
    "shapley": Measure("Shapley value", "coalition", _ALL, "Castro et al. 2009", "low", _NATS),
    "replaceability": Measure("Linear replaceability", "linear", _ALL, "ReplaceMe, arXiv:2505.02819", "high"),
    "attention-entropy": Measure("Attention entropy", "attention", ("attention",), "mean over heads", None, "nats"),
    "attention-sink": Measure("Attention on the first token", "attention", ("attention",), "arXiv:2309.17453", None),
}


@dataclass(frozen=True)
class Importance:
    """One number for each layer, or for the attention or MLP of each.

    Args:
        measure: a name in `MEASURES`.
        unit: `layer`, `attention` or `mlp`.
        values: (L,) float64.
        samples: (n, L), one row a window, or a draw, or a jackknife pseudo-value of one; None if nothing was drawn.
    """

    measure: str
    unit: str
    values: np.ndarray
    samples: np.ndarray | None = None

    @property
    def order(self) -> np.ndarray:
        """Layers from the most to the least redundant; the first of equals before the others."""
        return _towards_redundant(self.measure, self.values).argsort(kind="stable")

    def intervals(self, draws: int = 1000, seed: int = 0) -> np.ndarray | None:
        """95% bootstrap intervals, (L, 2), widened for few samples; None with fewer than two."""
        if self.samples is None or len(self.samples) < 2:
            return None
        n, each = len(self.samples), max(1, _HELD // draws)
        parts = [
            np.quantile(self._resampled(draws, seed, slice(start, start + each)), (0.025, 0.975), axis=0)
            for start in range(0, len(self.values), each)
        ]
        with np.errstate(invalid="ignore"):
            return (self.values + _widening(n) * (np.concatenate(parts, axis=1) - self.values)).T

    def among_least(self, k: int, draws: int = 1000, seed: int = 0) -> np.ndarray | None:
        """How often, over resampled texts, each is among the k most redundant: (L,) shares; None as above."""
        if self.samples is None or len(self.samples) < 2:
            return None
        ranked = _towards_redundant(self.measure, self._resampled(draws, seed)).argsort(axis=1, kind="stable")
        counts = np.bincount(ranked[:, :k].ravel(), minlength=len(self.values))
        return counts / draws

    def _resampled(self, draws: int, seed: int, of: slice = slice(None)) -> np.ndarray:
        """Values (draws, L), or of some of the L, as they would be on resampled windows, drawn some at a time.

        They are NaN where a sample is not finite.
        """
        assert self.samples is not None
        n, rng = len(self.samples), np.random.default_rng(seed)
        samples, rows = self.samples[:, of], max(1, _HELD // n)
        sound = np.isfinite(samples).all(axis=0)
        values, samples = np.where(sound, self.values[of], np.nan), np.where(sound, samples, 0.0)
        parts = [
            values + (rng.multinomial(n, np.full(n, 1 / n), size=min(rows, draws - start)) / n - 1 / n) @ samples
            for start in range(0, draws, rows)
        ]
        return np.concatenate(parts)


def _towards_redundant(measure: str, values: np.ndarray) -> np.ndarray:
    return -values if MEASURES[measure].redundant == "high" else values


def _widening(n: int) -> float:
    """By how much percentiles of a bootstrap from n samples are too near to the value.

    The factor from z sqrt((n-1)/n) to t (Hesterberg, The American Statistician 69, 2015). He spends it on the levels
    of the percentiles; those end at the samples themselves, and cover 88% with four of them. The ends do not.
    """
    from scipy.special import ndtri, stdtrit

    return float(np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975) / ndtri(0.975))


def jackknife(n: int, statistic: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return a statistic of n samples (L,), and Tukey's pseudo-values of it (n, L).

    Args:
        n: how many samples there are.
        statistic: given which of them to use, (n,) bool.
    """
    whole, everyone = statistic(np.ones(n, dtype=bool)), np.arange(n)
    if n < 2:
        return whole, whole[None]
    without = np.stack([statistic(everyone != left_out) for left_out in range(n)])
    with np.errstate(invalid="ignore"):
        return whole, n * whole - (n - 1) * without
