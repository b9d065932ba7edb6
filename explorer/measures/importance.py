"""What can be measured of a layer or site, as data; Importance: one number for each of them, with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from explorer.numerics import bootstrap_intervals, resample_means

Kind = Literal["similarity", "damage", "divergence", "gradient", "coalition", "linear", "attention"]

_ALL = ("layer", "attention", "mlp")


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
    "logit-l2": Measure("Logit distance", "divergence", _ALL, _SIDDIQUI),
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
        return self.ranked.argsort(kind="stable")

    @property
    def ranked(self) -> np.ndarray:
        """The values (L,), turned so that what is redundant is low."""
        return _towards_redundant(self.measure, self.values)

    def intervals(self, draws: int = 1000, seed: int = 0) -> np.ndarray | None:
        """95% bootstrap intervals, (L, 2), widened for few samples; None with fewer than two."""
        if self.samples is None or len(self.samples) < 2:
            return None
        return bootstrap_intervals(self.values, self.samples, draws, seed)

    def rank_stability(self, k: int, draws: int = 1000, seed: int = 0) -> np.ndarray | None:
        """How often, over resampled texts, each is among the k most redundant: (L,) shares; None as above."""
        if self.samples is None or len(self.samples) < 2:
            return None
        drawn = resample_means(self.values, self.samples, draws, seed)
        ranked = _towards_redundant(self.measure, drawn).argsort(axis=1, kind="stable")
        counts = np.bincount(ranked[:, :k].ravel(), minlength=len(self.values))
        return counts / draws


def _towards_redundant(measure: str, values: np.ndarray) -> np.ndarray:
    return -values if MEASURES[measure].redundant == "high" else values
