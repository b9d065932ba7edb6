"""Text that a model wrote. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.deltas import Variant
from explorer.masks import Mask


@dataclass(frozen=True)
class Sample:
    """Text that a model wrote as a variant; the prompt's perplexity is None where it is a single token.

    With `overflow` the text ends where a logit was not finite: too large for the dtype.
    """

    prompt: str
    variant: Mask | Variant
    text: str
    token_ids: tuple[int, ...]
    seconds: float
    prompt_perplexity: float | None = None
    overflow: bool = False

    @property
    def mask(self) -> Mask:
        """The sites that were off."""
        return self.variant.mask

    @property
    def repetition(self) -> float:
        """Share of the new runs of four tokens that were there before (seq-rep-4, arXiv:1908.04319)."""
        runs = [self.token_ids[i : i + 4] for i in range(len(self.token_ids) - 3)]
        return 1 - len(set(runs)) / len(runs) if runs else 0.0

    @property
    def tokens_per_second(self) -> float:
        """New tokens over wall time, prompt included."""
        return len(self.token_ids) / self.seconds if self.seconds else 0.0
