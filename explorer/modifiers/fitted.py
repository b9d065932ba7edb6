"""What a modifier made: weights by layer and name, what stands in by place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from explorer.deltas import StandIn, WeightChange
from explorer.masks import Mask


@dataclass(frozen=True)
class Fitted:
    """What a modifier made.

    Args:
        weights: layer -> name of a parameter in it -> what becomes of it.
        stand_ins: place -> what stands in for it.
    """

    weights: Mapping[int, Mapping[str, WeightChange]] = field(default_factory=dict)
    stand_ins: Mapping[Mask, StandIn] = field(default_factory=dict)

    def joined(self, more: Fitted) -> Fitted:
        """Return this with more, which wins."""
        layers = self.weights.keys() | more.weights.keys()
        weights = {layer: {**self.weights.get(layer, {}), **more.weights.get(layer, {})} for layer in sorted(layers)}
        return Fitted(weights, {**self.stand_ins, **more.stand_ins})

    def since(self, before: Fitted) -> Fitted:
        """Return what has been added to what was there before."""
        changed = {
            layer: {name: each for name, each in named.items() if before.weights.get(layer, {}).get(name) is not each}
            for layer, named in self.weights.items()
        }
        stand_ins = {place: each for place, each in self.stand_ins.items() if before.stand_ins.get(place) is not each}
        return Fitted({layer: named for layer, named in changed.items() if named}, stand_ins)
