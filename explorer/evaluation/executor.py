"""What others are asked for, who run the same model: numbers of variants on inputs, put into a store. Knows no Ray.

A number depends on the model, the input and the variant alone, so it does not matter who runs them: whatever is asked
for first has the others fill the store, then looks there, and works out itself what is still missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from explorer.deltas import Variant
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.prefix_tree import count_steps
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store

#: Distinct inputs, by their places, for each group of variants whose numbers on them are missing.
Missing = Mapping[tuple[Mask | Variant, ...], list[int]]


class Inputs(Protocol):
    """What goes through a model row by row, such as the windows of a text."""

    @property
    def digests(self) -> tuple[str, ...]:
        """A digest for each."""

    @property
    def length(self) -> int:
        """Token ids in a row."""

    def __getitem__(self, rows: list[int]) -> Inputs:
        """Return some of them."""


_Inputs = TypeVar("_Inputs", bound=Inputs)


@dataclass(frozen=True)
class Assignment(Generic[_Inputs]):
    """Numbers that a store is to have.

    Args:
        loaded: the model; its batches have the shape that they are wanted in.
        inputs: on which.
        variants: of which.
        store: where they go.
        progress: told that work goes on; it may raise `Cancelled`.
        state_cache: for what one assignment leaves to the next.
    """

    loaded: LoadedModel
    inputs: _Inputs
    variants: Sequence[Mask | Variant]
    store: Store
    progress: Progress = unreported
    state_cache: HiddenStateCache | None = None


#: Does what is assigned: a function of a module, or a partial of one, so that it can be sent.
Filler = Callable[[Assignment[_Inputs]], None]


class Executor(Protocol):
    """Others who run the same model."""

    def fill(self, function: Filler[_Inputs], assignment: Assignment[_Inputs], missing: Missing, size: int) -> None:
        """Have a function done, and put what it stores into the assignment's store; or leave it to the caller.

        Args:
            function: gives the numbers.
            assignment: of which some are missing.
            missing: which ones.
            size: rows of a batch.
        """


def find_missing(digests: Sequence[str], known: Mapping[Mask | Variant, Container[str]]) -> Missing:
    """Group the distinct inputs by the variants that are not known on them."""
    groups: dict[tuple[Mask | Variant, ...], list[int]] = defaultdict(list)
    for digest, index in {d: i for i, d in reversed(list(enumerate(digests)))}.items():
        if absent := tuple(variant for variant, found in known.items() if digest not in found):
            groups[absent].append(index)
    return {variants: sorted(rows) for variants, rows in groups.items()}


def count_cost(missing: Missing, size: int, n_layers: int) -> int:
    """Count the layers that are run on a batch for all that is missing, and the heads."""
    return sum(sum(count_steps(each, n_layers)[1]) * -(-len(rows) // size) for each, rows in missing.items())


def fill_by_others(
    function: Filler[_Inputs],
    assignment: Assignment[_Inputs],
    known: Mapping[Mask | Variant, Container[str]],
    size: int,
) -> bool:
    """Have the model's executor, where it has one, fill the store; tell whether something may have come into it."""
    executor: Executor | None = assignment.loaded.executor
    if executor is None or not (missing := find_missing(assignment.inputs.digests, known)):
        return False
    executor.fill(function, assignment, missing, size)
    return True
