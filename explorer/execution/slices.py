"""What is missing -> slices of about equal cost, in each what begins alike: variants on a batch of inputs or several.

A cost is counted in layers run on a batch. Variants that go down one tree share what they have in common before they
part; in two slices it is run twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from explorer.deltas import Variant
from explorer.evaluation import Missing, count_cost, count_steps
from explorer.masks import Mask
from explorer.model import slice_rows

_LEAST_TREES = 2  # passes through the whole model that a slice is worth, so that what is run twice is a third at most


@dataclass(frozen=True)
class Slice:
    """A part of what is missing.

    Args:
        variants: of which.
        rows: on which inputs.
        cost: layers run on a batch.
    """

    variants: tuple[Mask | Variant, ...]
    rows: tuple[int, ...]
    cost: int

    @property
    def pairs(self) -> int:
        """Variants times inputs."""
        return len(self.variants) * len(self.rows)


@dataclass(frozen=True)
class Cutter:
    """Cuts what is missing into slices.

    Args:
        missing: what is missing.
        size: rows of a batch.
        n_layers: L of the model.
    """

    missing: Missing
    size: int
    n_layers: int

    @property
    def cost(self) -> int:
        """Cost of all, in one slice."""
        return count_cost(self.missing, self.size, self.n_layers)

    def cut(self, wanted: float) -> list[Slice]:
        """Return slices that cost about so much each."""
        return [part for variants, rows in self.missing.items() for part in self._cut_group(variants, rows, wanted)]

    def _cut_group(self, variants: Sequence[Mask | Variant], rows: Sequence[int], wanted: float) -> Iterator[Slice]:
        ordered, steps = count_steps(variants, self.n_layers)
        batches = max(1, int(wanted // sum(steps)))
        runs = list(self._cut_variants(steps, max(wanted, _LEAST_TREES * steps[0]))) if batches == 1 else [steps]
        for part in slice_rows(len(rows), batches * self.size):
            chosen, first = tuple(rows[part]), 0
            for run in runs:
                cost = (sum(run) + steps[0] - run[0]) * -(-len(chosen) // self.size)
                yield Slice(tuple(ordered[first : first + len(run)]), chosen, cost)
                first += len(run)

    def _cut_variants(self, steps: Sequence[int], wanted: float) -> Iterator[list[int]]:
        """Cut the costs of variants that follow each other into runs of about equal cost."""
        share = sum(steps) / math.ceil(sum(steps) / wanted)
        run: list[int] = []
        for step in steps:
            if run and sum(run) + step / 2 > share:
                yield run
                run = []
            run.append(step)
        yield run
