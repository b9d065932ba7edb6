"""What a modifier made: weights by layer and name, what stands in by place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jaxtyping import Float

from explorer.deltas import StandIn
from explorer.masks import Mask

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Fitted:
    """What a modifier made.

    Args:
        weights: layer -> name of a parameter in it -> what takes its place.
        stand_ins: place -> what stands in for it.
    """

    weights: Mapping[int, Mapping[str, Float[Tensor, " *weight"]]] = field(default_factory=dict)
    stand_ins: Mapping[Mask, StandIn] = field(default_factory=dict)
