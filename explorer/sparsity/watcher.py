"""What pruning inside the blocks tells whoever watches: the scores of a matrix, the errors of a layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass

from explorer.holding import holding
from explorer.sparsity.sparsity import Entries, Marks


@dataclass(frozen=True)
class LayerErrors:
    """How far the output of a pruned layer is from what it was, given what the pruned layers before it give.

    Over all tokens of the calibration windows, norm2 of the difference over norm2 of what the layer gave.

    Args:
        layer: which layer.
        matrices: names of those that got zeros, sorted.
        zeroed: with the zeros, and the survivors as they were.
        adapted: with the survivors as they have become; None where they do not adapt.
    """

    layer: int
    matrices: tuple[str, ...]
    zeroed: float
    adapted: float | None


class Watcher:
    """Sees layers being pruned; this one lets them go by. One may raise `Cancelled` to stop it."""

    def scores(self, layer: int, name: str, scores: Entries, zeros: Marks) -> None:
        """Take the scores of a matrix and where it gets zeros; of several rounds the last one counts."""

    def layer(self, layer: int, find_errors: Callable[[], LayerErrors]) -> None:
        """Take note that a layer is pruned; its errors are found if they are asked for."""


_WATCHER: ContextVar[Watcher | None] = ContextVar("explorer_sparsity_watcher", default=None)


def watching_layers(watcher: Watcher) -> AbstractContextManager[Watcher]:
    """Have a watcher see every layer that is pruned in the block."""
    return holding(_WATCHER, watcher)


def is_watched() -> bool:
    """Tell whether anybody watches the calling thread."""
    return _WATCHER.get() is not None


def find_watcher() -> Watcher:
    """Return who watches the calling thread's pruning."""
    return _WATCHER.get() or Watcher()
