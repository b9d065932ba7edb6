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
