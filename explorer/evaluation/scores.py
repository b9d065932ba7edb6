"""What a variant costs, as numbers: perplexity with its interval, estimates, overflow. Knows no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from explorer.deltas import Variant
from explorer.masks import NONE, Mask
from explorer.numerics import Interval, t_interval


@dataclass(frozen=True)
class Overflow:
    """A forward pass whose numbers left the range of their dtype.

    Args:
        dtype: what the arithmetic is in.
        layer: the first one whose output is not finite; L where it is the head; None if that is not known.
        n_layers: L.
    """

    dtype: str
    layer: int | None
    n_layers: int

    def __str__(self) -> str:
        if self.layer is None:
            return f"overflow ({self.dtype})"
        where = "in the head" if self.layer == self.n_layers else f"from layer {self.layer}"
        return f"overflow ({self.dtype}, {where})"


@dataclass(frozen=True)
class Score:
    """What a variant costs on a split, beside the unpruned model on the same windows.

    Args:
        variant: what was off, and changed.
        nll: summed negative log-likelihood of each window's predicted tokens; infinite where
            the arithmetic overflowed.
        baseline: the same for the unpruned model.
        tokens: predicted tokens in each window.
        text_bytes: UTF-8 bytes behind the predicted tokens.
        overflow: where the variant's arithmetic overflowed, if it did on any window.
        baseline_overflow: the same for the unpruned model.
    """

    variant: Mask | Variant
    nll: Float64[np.ndarray, " windows"]
    baseline: Float64[np.ndarray, " windows"]
    tokens: int
    text_bytes: Int64[np.ndarray, " windows"]
    overflow: Overflow | None = None
    baseline_overflow: Overflow | None = None

    @property
    def unpruned(self) -> Score:
        """The score of the whole model on the same windows."""
        return replace(self, variant=NONE, nll=self.baseline, overflow=self.baseline_overflow)

    @property
    def mask(self) -> Mask:
        """The sites that were off."""
        return self.variant.mask

    @property
    def n_tokens(self) -> int:
        """Predicted tokens in all windows."""
        return self.tokens * len(self.nll)

    @cached_property
    def total_nll(self) -> float:
        """Negative log-likelihood of all predicted tokens."""
        return math.fsum(self.nll)

    @property
    def perplexity(self) -> float:
        """exp(sum of nats / number of predicted tokens)."""
        return _exp(self.total_nll / self.n_tokens)

    @cached_property
    def perplexity_ci95(self) -> Interval | None:
        """95% t-interval of the mean nats over windows, through exp; None where there is none: see `t_interval`."""
        interval = t_interval(self.nll / self.tokens)
        return interval and (_exp(interval[0]), _exp(interval[1]))

    @property
    def bits_per_byte(self) -> float:
        """Bits needed for a byte of the text; comparable across tokenizers; NaN where the tokens stand for no text."""
        size = int(self.text_bytes.sum())
        return self.total_nll / math.log(2) / size if size else math.nan

    @cached_property
    def delta_nll_per_token(self) -> float:
        """Mean nats a token costs more than under the unpruned model."""
        if not np.isfinite(self.baseline).all():
            return math.nan
        return math.fsum(self.nll - self.baseline) / self.n_tokens

    @cached_property
    def delta_ci95(self) -> Interval | None:
        """95% t-interval of the difference, paired over windows; None where there is none: see `t_interval`."""
        if self.overflow or self.baseline_overflow:
            return None
        return t_interval((self.nll - self.baseline) / self.tokens)


@dataclass(frozen=True)
class Estimate:
    """A score on its way: the difference on some windows, on top of the unpruned model on all that are known.

    Args:
        score: of the windows scored so far.
        baseline: nats per token of the unpruned model.
        n_windows: windows that there will be.
    """

    score: Score
    baseline: float
    n_windows: int

    @property
    def perplexity(self) -> float:
        """exp(nats per token of the unpruned model + the difference so far)."""
        return _exp(self.baseline + self.score.delta_nll_per_token)

    @property
    def perplexity_ci95(self) -> Interval | None:
        """The interval of the difference so far, on top of the same base, through exp.

        None where none is known: what removes nothing differs by nothing, which says nothing of the windows to come.
        """
        interval = self.score.delta_ci95 if np.any(self.score.nll != self.score.baseline) else None
        return interval and (_exp(self.baseline + interval[0]), _exp(self.baseline + interval[1]))


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf
