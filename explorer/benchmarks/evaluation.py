"""Evaluation: what variants answered on the items of one task, and how far that is from the unpruned model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool

from explorer.benchmarks.agreement import find_acceptance, find_kl
from explorer.benchmarks.question import Question
from explorer.benchmarks.request import Likelihood
from explorer.deltas import Variant
from explorer.masks import Mask
from explorer.numerics import Interval, PairedDifference, bootstrap, compare_shares, exceeds, share_interval

#: Items' values by a metric -> the metric.
Aggregate = Callable[[Sequence[Any]], float]


@dataclass(frozen=True)
class Answers:
    """What one variant answered.

    Args:
        variant: what was off, and changed.
        values: by metric, the value of each item.
        chosen: its answer to each item: the number of the likeliest choice, or a text.
        likelihoods: of each item's requests; empty where it wrote.
    """

    variant: Mask | Variant
    values: Mapping[str, tuple[Any, ...]]
    chosen: tuple[int | str, ...]
    likelihoods: tuple[tuple[Likelihood, ...], ...]


@dataclass(frozen=True)
class Measured:
    """A metric with its standard error and 95% interval.

    Args:
        value: the metric.
        error: its standard error; NaN where there is none.
        interval: Wilson's of a share, else a bootstrap's over items; None where there is none.
    """

    value: float
    error: float
    interval: Interval | None


@dataclass(frozen=True)
class Evaluation:
    """What variants answered on the items of one task.

    Args:
        task: its name.
        chance: the accuracy of guessing; None where there is nothing to guess.
        questions: the items.
        aggregates: what makes each metric of the items' values.
        answers: of each variant, the unpruned model first.
    """

    task: str
    chance: float | None
    questions: tuple[Question, ...]
    aggregates: Mapping[str, Aggregate]
    answers: tuple[Answers, ...]

    def __len__(self) -> int:
        return len(self.questions)

    def measure(self, metric: str, number: int) -> Measured:
        """Return a metric of the variant of a number."""
        values = self.answers[number].values[metric]
        n, value = len(values), float(self.aggregates[metric](values))
        if metric in self._shares:
            error = math.sqrt(value * (1 - value) / (n - 1)) if n > 1 else math.nan
            return Measured(value, error, share_interval(int(sum(values)), n))
        return Measured(value, *bootstrap(n, lambda rows: self._aggregate(metric, values, rows)))

    def compare(self, metric: str, number: int) -> PairedDifference:
        """Return by how much the variant of a number differs from the unpruned model, paired over items."""
        before, after = (self.answers[each].values[metric] for each in (0, number))
        if metric in self._shares:
            return compare_shares(_as_shares(before), _as_shares(after))
        whole = np.arange(len(before))

        def find(rows: np.ndarray) -> float:
            return self._aggregate(metric, after, rows) - self._aggregate(metric, before, rows)

        return PairedDifference(find(whole), bootstrap(len(before), find)[1])

    def _aggregate(self, metric: str, values: Sequence[Any], rows: np.ndarray) -> float:
        return float(self.aggregates[metric]([values[row] for row in rows]))

    def joined(self, more: Evaluation) -> Evaluation:
        """Return this with the answers of more variants to the same items; the unpruned model's are in both."""
        return replace(self, answers=(*self.answers, *more.answers[1:]))

    @cached_property
    def _shares(self) -> frozenset[str]:
        """The metrics that are shares of items that are right."""
        return frozenset(metric for metric in self.aggregates if self._is_share(metric))

    def _is_share(self, metric: str) -> bool:
        values = [value for answers in self.answers for value in answers.values[metric]]
        if not all(isinstance(value, bool | int | float | np.number) and value in (0, 1) for value in values):
            return False
        return all(
            math.isclose(self.aggregates[metric](answers.values[metric]), float(np.mean(answers.values[metric])))
            for answers in self.answers
        )

    @property
    def at_chance(self) -> bool:
        """Whether the unpruned model itself is not seen to beat guessing, so that nothing can be lost."""
        if self.chance is None or "acc" not in self.aggregates:
            return False
        right = self.answers[0].values["acc"]
        return not exceeds(int(sum(right)), len(right), self.chance)

    def flips(self, number: int) -> float:
        """Share of items whose answer is another than the unpruned model's, right or wrong."""
        pairs = zip(self.answers[0].chosen, self.answers[number].chosen, strict=True)
        return sum(before != after for before, after in pairs) / len(self)

    def kl(self, number: int) -> float | None:
        """KL divergence of the answers from the unpruned model's; see `find_kl`."""
        return find_kl(self.answers[0].likelihoods, self.answers[number].likelihoods)

    def acceptance(self, number: int) -> float | None:
        """Expected acceptance if the variant drafted for the unpruned model; see `find_acceptance`."""
        return find_acceptance(self.answers[0].likelihoods, self.answers[number].likelihoods)

    def tell(self, metric: str, number: int) -> str:
        """Say in a sentence what the comparison with the unpruned model shows."""
        if self.at_chance:
            return f"the unpruned model is at chance, which says nothing of what is lost ({len(self)} items)"
        found = self.compare(metric, number)
        if found.seen:
            return f"a difference is seen with {len(self)} items"
        return f"no difference can be seen with {len(self)} item{'s' * (len(self) != 1)}"


def _as_shares(values: Sequence[Any]) -> Bool[np.ndarray, " samples"]:
    return np.array(values, dtype=float) > 0.5
