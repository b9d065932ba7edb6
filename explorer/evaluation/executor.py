"""What others are asked for, who run the same model: numbers of variants on windows, put into a store. Knows no Ray.

A number depends on the model, the window and the variant alone, so it does not matter who runs them: whatever is asked
for first has the others fill the store, then looks there, and works out itself what is still missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from explorer.deltas import Variant
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Windows

#: Distinct windows, by their places, for each group of variants whose numbers on them are missing.
Missing = Mapping[tuple[Mask | Variant, ...], list[int]]


@dataclass(frozen=True)
class Assignment:
    """Numbers that a store is to have.

    Args:
        loaded: the model; its batches have the shape that they are wanted in.
        windows: on which.
        variants: of which.
        store: where they go.
        progress: told that work goes on; it may raise `Cancelled`.
        state_cache: for what one assignment leaves to the next.
    """

    loaded: LoadedModel
    windows: Windows
    variants: Sequence[Mask | Variant]
    store: Store
    progress: Progress = unreported
    state_cache: HiddenStateCache | None = None


#: Does what is assigned: a function of a module, or a partial of one, so that it can be sent.
Filler = Callable[[Assignment], None]


class Executor(Protocol):
    """Others who run the same model."""

    def fill(self, function: Filler, assignment: Assignment, missing: Missing, size: int) -> None:
        """Have a function done, and put what it stores into the assignment's store; or leave it to the caller.

        Args:
            function: gives the numbers.
            assignment: of which some are missing.
            missing: which ones.
            size: windows in a batch.
        """


def find_missing(digests: Sequence[str], known: Mapping[Mask | Variant, Container[str]]) -> Missing:
    """Group the distinct windows by the variants that are not known on them."""
    groups: dict[tuple[Mask | Variant, ...], list[int]] = defaultdict(list)
    for digest, index in {d: i for i, d in reversed(list(enumerate(digests)))}.items():
        if absent := tuple(variant for variant, found in known.items() if digest not in found):
            groups[absent].append(index)
    return {variants: sorted(rows) for variants, rows in groups.items()}


def fill_by_others(
    function: Filler, assignment: Assignment, known: Mapping[Mask | Variant, Container[str]], size: int
) -> bool:
    """Have the model's executor, where it has one, fill the store; tell whether something may have come into it."""
    executor: Executor | None = assignment.loaded.executor
    if executor is None or not (missing := find_missing(assignment.windows.digests, known)):
        return False
    executor.fill(function, assignment, missing, size)
    return True
