"""A worker of a cluster: holds a model, does slices, and gives what came into its store. Imports no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from explorer.deltas import Variant
from explorer.errors import Cancelled
from explorer.evaluation import Assignment, Filler, HiddenStateCache, Inputs
from explorer.masks import Mask
from explorer.model import load, quieten_libraries
from explorer.storage import Rows, Store, absorb, list_rows

if TYPE_CHECKING:
    from explorer.checkpoints import ModelSpec

_STATE_BYTES = 2**26  # of the unpruned model's hidden states, kept from slice to slice


@dataclass(frozen=True)
class Order:
    """What the slices of one request have in common.

    Args:
        function: does a slice.
        inputs, variants: slices name them by place.
        size: rows of a batch.
    """

    function: Filler[Any]
    inputs: Inputs
    variants: Sequence[Mask | Variant]
    size: int


@dataclass(frozen=True)
class Answer:
    """What a slice gave.

    Args:
        rows: of the store.
        evaluations: layers run, times rows.
        seconds: that it took.
    """

    rows: Rows
    evaluations: int
    seconds: float


class Worker:
    """Holds a model, and does one slice after another."""

    def __init__(self) -> None:
        self._stopped = -1

    def load(self, spec: ModelSpec, cache: Path, files: Rows, threads: int) -> str:
        """Load the model from this machine's own files, or the hub; return what decides its numbers.

        Args:
            spec: the model.
            cache: where converted models are kept.
            files: whose digests are known.
            threads: of the processor, that each operation is parted among.
        """
        import torch

        torch.set_num_threads(threads)
        quieten_libraries()
        store = Store(None)
        absorb(store, files)
        self.loaded = load(spec, store, cache)
        self._states = HiddenStateCache(_STATE_BYTES)
        store.close()
        return self.loaded.numerics_key(1)

    def do(self, order: Order, number: int, variants: Sequence[int], rows: Sequence[int]) -> Answer:
        """Do a slice of an order: variants and inputs by their places.

        Raises:
            Cancelled: it was stopped.
        """
        store, start = Store(None), perf_counter()
        self.loaded.batch_shape = self.loaded.batch_shape.fixed(order.size, order.inputs.length)
        chosen = [order.variants[place] for place in variants]

        def go_on(*_: Any) -> None:
            if number <= self._stopped:
                raise Cancelled

        assigned = Assignment(self.loaded, order.inputs[list(rows)], chosen, store, go_on, self._states)
        try:
            with self.loaded.wrappers.counting() as count:
                order.function(assigned)
            return Answer(list_rows(store), count.evaluations, perf_counter() - start)
        finally:
            store.close()

    def stop(self, number: int) -> None:
        """Stop slices up to a number; called while one is done."""
        self._stopped = number
