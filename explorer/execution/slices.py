"""What is missing -> slices of about equal cost, in each what begins alike: variants on a batch of windows or several.

A cost is counted in layers run on a batch. Variants that go down one tree share what they have in common before they
part; in two slices it is run twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from explorer.deltas import Variant, find_layer_key
from explorer.evaluation import Missing
from explorer.masks import Mask
from explorer.model import slice_rows

_LEAST_TREES = 2  # passes through the whole model that a slice is worth, so that what is run twice is a third at most


@dataclass(frozen=True)
class Slice:
    """A part of what is missing.

    Args:
        variants: of which.
        rows: on which windows.
        cost: layers run on a batch.
    """

    variants: tuple[Mask | Variant, ...]
    rows: tuple[int, ...]
    cost: int

    @property
    def pairs(self) -> int:
        """Variants times windows."""
        return len(self.variants) * len(self.rows)


@dataclass(frozen=True)
class Cutter:
    """Cuts what is missing into slices.

    Args:
        missing: what is missing.
        size: windows in a batch.
        n_layers: L of the model.
    """

    missing: Missing
    size: int
    n_layers: int

    @property
    def cost(self) -> int:
        """Cost of all, in one slice."""
        return sum(sum(self._find_steps(self._sort(each))) * -(-len(rows) // self.size) for each, rows in self._items)

    def cut(self, wanted: float) -> list[Slice]:
        """Return slices that cost about so much each."""
        return [part for variants, rows in self._items for part in self._cut_group(variants, rows, wanted)]

    @property
    def _items(self) -> list[tuple[tuple[Mask | Variant, ...], list[int]]]:
        return list(self.missing.items())

    def _cut_group(self, variants: Sequence[Mask | Variant], rows: Sequence[int], wanted: float) -> Iterator[Slice]:
        ordered = self._sort(variants)
        steps = self._find_steps(ordered)
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

    def _sort(self, variants: Sequence[Mask | Variant]) -> list[Mask | Variant]:
        """Return variants in an order in which those that begin alike follow each other."""
        return sorted(variants, key=self._find_path)

    def _find_path(self, variant: Mask | Variant) -> list:
        return [find_layer_key(variant, layer) for layer in range(self.n_layers + 1)]

    def _find_steps(self, ordered: Sequence[Mask | Variant]) -> list[int]:
        """Return what each variant costs after the one before it: the layers from where they part, and the head."""
        paths = [self._find_path(variant) for variant in ordered]
        every = self.n_layers + 1
        parts = [0, *(_find_parting(*pair) for pair in pairwise(paths))]
        return [max(1, every - part) for part in parts]


def _find_parting(before: Sequence, after: Sequence) -> int:
    return next((layer for layer, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]), len(after))
