"""Hidden states that a scored variant leaves behind, for the next one that begins alike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from explorer.deltas import Variant, find_prefix_key
from explorer.masks import Mask
from explorer.model import Hidden

_Key = tuple[str, int, Hashable]


class HiddenStateCache:
    """Inputs of layers, by windows and by what is otherwise before the layer; the least recently used go first.

    A variant that differs from a kept one from layer l on is run from layer l on. One of these belongs to one model.

    Args:
        budget: bytes of states to keep at the most.
    """

    def __init__(self, budget: int) -> None:
        self.budget, self.size = budget, 0
        self._states: OrderedDict[_Key, Hidden] = OrderedDict()

    def deepest(self, windows: str, variant: Mask | Variant, n_layers: int) -> tuple[int, Hidden] | None:
        """Return the deepest layer that a variant need not run before, with that layer's input; None if there is none.

        Args:
            windows: a key of the batch of windows.
            variant: what will be off and changed.
            n_layers: L; the output of the last layer counts as the input of layer L.
        """
        for layer in range(n_layers, 0, -1):
            state = self._states.get(key := _key(windows, layer, variant))
            if state is not None:
                self._states.move_to_end(key)
                return layer, state
        return None

    def keep(self, windows: str, layer: int, variant: Mask | Variant, state: Hidden) -> None:
        """Keep the input of a layer in a variant, unless it alone is beyond the budget."""
        key, size = _key(windows, layer, variant), state.nbytes
        if size > self.budget or key in self._states:
            return
        self._evict(size)
        self._states[key] = state
        self.size += size

    def shrink(self) -> None:
        """Give back half of the budget, for good: the memory was needed."""
        self.budget //= 2
        self._evict(0)

    def _evict(self, wanted: int) -> None:
        while self._states and self.size + wanted > self.budget:
            self.size -= self._states.popitem(last=False)[1].nbytes


def _key(windows: str, layer: int, variant: Mask | Variant) -> _Key:
    return windows, layer, find_prefix_key(variant, layer)
