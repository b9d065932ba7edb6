"""A delta that is made layer by layer: each layer's part lies in the store until the whole does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from explorer.deltas import Delta, Origin, WeightChange
from explorer.storage import Store


@dataclass
class DeltaParts:
    """What has been made of a delta so far; work that was cut off goes on after it.

    Args:
        store: where it lies.
        key: of the whole delta.
        origin: of the delta.
    """

    store: Store
    key: str
    origin: Origin
    _layers: list[int] = field(default_factory=list)

    def find(self, layer: int) -> Mapping[str, WeightChange] | None:
        """Return a layer's part; None if it has not been made."""
        found = self.store.deltas.find(self._name(layer))
        if found is None:
            return None
        self._layers.append(layer)
        return found.weights[layer]

    def keep(self, layer: int, named: Mapping[str, WeightChange]) -> None:
        """Keep a layer's part. Raises ModifyError where the disk is full or not to be written."""
        self.store.deltas.keep(self._name(layer), Delta(self.origin, {layer: named}, {}))
        self._layers.append(layer)

    def drop(self) -> None:
        """Let the parts go: the whole is stored."""
        for layer in self._layers:
            self.store.deltas.drop(self._name(layer))

    def _name(self, layer: int) -> str:
        return f"{self.key}-{layer}"
