"""A delta that is whole, as the steps of its fit: made again are those that it is asked to lack."""

from __future__ import annotations

from explorer.deltas import Delta
from explorer.storage import FitSteps


class MadeSteps(FitSteps):
    """What the steps of a fit made that took a layer each.

    Args:
        made: the delta of that fit.
        without: the layer whose step is to be taken again; None for none.
    """

    def __init__(self, made: Delta, without: int | None) -> None:
        super().__init__(None)
        layers = sorted(made.weights)
        self._steps = [
            None if layer == without else Delta(made.origin, {layer: made.weights[layer]}, {}) for layer in layers
        ]

    def find(self, step: int) -> Delta | None:
        """Return what a step made; None if it is to be taken again, or never was."""
        return self._steps[step] if step < len(self._steps) else None
