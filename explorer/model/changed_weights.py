"""The weights that deltas make of a model's own, the last used ones kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from jaxtyping import Float
from torch import Tensor

from explorer.deltas import Delta, WeightChange, change_weight


def list_changes(deltas: Sequence[Delta], layer: int, name: str) -> list[WeightChange]:
    """List what deltas make of a layer's parameter, in their order."""
    return [found for delta in deltas if (found := delta.weights.get(layer, {}).get(name)) is not None]


class ChangedWeights:
    """Makes what a weight becomes under deltas, and keeps it for the next forward pass.

    Holds `capacity` bytes beside the deltas' own tensors.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._kept: OrderedDict[tuple, tuple[list[WeightChange], Float[Tensor, " *weight"]]] = OrderedDict()
        self._lock = Lock()

    def find(
        self, layer: int, name: str, own: Float[Tensor, " *weight"], deltas: Sequence[Delta]
    ) -> Float[Tensor, " *weight"]:
        """Return what a layer's parameter becomes, by the deltas in their order; itself where none changes it."""
        changes = list_changes(deltas, layer, name)
        if not changes:
            return own
        key = (layer, name, own.device, *map(id, changes))  # of what the entry itself keeps alive
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
        made = own
        for change in changes:
            made = change_weight(made, change)
        if made is not changes[-1] and made.nbytes <= self.capacity:
            self._keep(key, changes, made)
        return made

    def _keep(self, key: tuple, changes: list[WeightChange], made: Float[Tensor, " *weight"]) -> None:
        with self._lock:
            self._kept[key] = changes, made
            while sum(tensor.nbytes for _, tensor in self._kept.values()) > self.capacity:
                self._kept.popitem(last=False)
