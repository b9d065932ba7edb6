"""Delta: named tensors that replace weights or stand in for what is off, and how they were made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, UInt8

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.places import list_places
from explorer.deltas.stand_in import StandIn
from explorer.deltas.weight_change import WeightChange, name_tensors
from explorer.errors import ModifyError
from explorer.masks import Mask

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Trained:
    """What a training took, beside time.

    Args:
        steps: of the optimizer; of several trainings, of all.
        kept: the step whose checkpoint was kept; of several trainings, the last one's.
        tokens: ids trained on; those that came again are counted again.
    """

    steps: int
    kept: int
    tokens: int


@dataclass(frozen=True)
class Origin:
    """How a delta was made.

    Args:
        modifier: what made it.
        mask: what was off.
        base: digest of the model.
        text: name of the calibration text.
        tokens: ids of it that were used.
        corpus: digest of the calibration windows.
        below: digests of the deltas that were in place.
        libraries: their versions.
        seconds: that it took.
        forwards: windows taken through layers, over windows times L: how many forward passes that is.
        trained: what it took, where it was trained.
    """

    modifier: ModifierSpec
    mask: Mask
    base: str
    text: str
    tokens: int
    corpus: str
    below: tuple[str, ...] = ()
    libraries: str = ""
    seconds: float = 0.0
    forwards: float = 0.0
    trained: Trained | None = None

    def describe(self) -> dict[str, Any]:
        """Return it for JSON, all but what it cost: the same question has the same answer."""
        return {
            "modifier": str(self.modifier),
            "mask": str(self.mask),
            "base": self.base,
            "text": self.text,
            "tokens": self.tokens,
            "corpus": self.corpus,
            "below": list(self.below),
            "libraries": self.libraries,
        }


@dataclass(frozen=True, eq=False)
class Delta:
    """What a modifier made. Two are equal if their digests are.

    Args:
        origin: how it was made.
        weights: layer -> name of a parameter in that layer -> what becomes of it; L is the head.
        stand_ins: place that is off (see `list_places`) -> what stands in for it.
    """

    origin: Origin
    weights: Mapping[int, Mapping[str, WeightChange]]
    stand_ins: Mapping[Mask, StandIn]

    def __post_init__(self) -> None:
        places = list_places(self.origin.mask)
        if strange := [str(place) for place in self.stand_ins if place not in places]:
            raise ModifyError("Something stands in for what is on", strange[0], "Make the delta again")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delta) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @cached_property
    def tensors(self) -> dict[str, Float[Tensor, " *any"] | UInt8[Tensor, " *any"]]:
        """All tensors, as they are named in a file: `layers.11.mlp.down_proj.weight`, `stand_ins.12-17.bias`."""
        found: dict[str, Tensor] = {}
        for layer, named in self.weights.items():
            for name, change in named.items():
                found |= name_tensors(f"layers.{layer}.{name}", change)
        found |= {
            f"stand_ins.{place}.{name}": tensor
            for place, stand_in in self.stand_ins.items()
            for name, tensor in stand_in.tensors.items()
        }
        return dict(sorted(found.items()))

    @cached_property
    def digest(self) -> str:
        """A digest of how it was made and of every number in it."""
        import torch

        content = hashlib.sha256(json.dumps(self.origin.describe(), sort_keys=True).encode())
        for name, tensor in self.tensors.items():
            content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return content.hexdigest()[:32]

    @property
    def modifier(self) -> ModifierSpec:
        """What made it."""
        return self.origin.modifier

    @property
    def mask(self) -> Mask:
        """What it was made for."""
        return self.origin.mask

    @cached_property
    def layers(self) -> frozenset[int]:
        """The layers from whose input on something is otherwise: of a run that is off, the first."""
        return frozenset(self.weights) | {min(place.sites).layer for place in self.stand_ins}

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @property
    def parameters_added(self) -> int:
        """Numbers in what stands in: the model has so many more."""
        return sum(tensor.numel() for each in self.stand_ins.values() for tensor in each.tensors.values())
