"""What becomes of a weight: a tensor in its place, a product of low rank added to it, some of its entries zeroed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from jaxtyping import Float, UInt8

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class LowRankUpdate:
    """weight -> weight + left right, computed in float32 and rounded once.

    Args:
        left: as many rows as the weight.
        right: as many columns.
    """

    left: Float[Tensor, "*stack rows rank"]
    right: Float[Tensor, "*stack rank columns"]

    def __call__(self, own: Float[Tensor, "*stack rows columns"]) -> Float[Tensor, "*stack rows columns"]:
        """Return what a weight becomes, on its device and in its dtype."""
        left, right = (each.to(own.device).float() for each in (self.left, self.right))
        return (own.float() + left @ right).to(own.dtype)

    def beside(self, given: Float[Tensor, "*batch columns"]) -> Float[Tensor, "*batch rows"]:
        """Return what is added to what a weight makes of an input, where the weight itself stays as it is."""
        left, right = (each.to(given.device).float() for each in (self.left, self.right))
        return (given.float() @ right.T @ left.T).to(given.dtype)

    def fits(self, own: Float[Tensor, " *weight"]) -> bool:
        """Tell whether a weight has the shape that this is for."""
        return (*self.left.shape[:-1], self.right.shape[-1]) == tuple(own.shape)

    @property
    def tensors(self) -> dict[str, Float[Tensor, " *any"]]:
        """Its tensors, by name."""
        return {"left": self.left, "right": self.right}


@dataclass(frozen=True, eq=False)
class SparsityPattern:
    """weight -> the same with zeros where the pattern has none.

    Args:
        kept: a bit for each entry that stays, the first column in the highest bit, each row filled up to bytes.
    """

    kept: UInt8[Tensor, "*rows bytes"]

    @classmethod
    def of(cls, kept: Float[Tensor, " *weight"]) -> SparsityPattern:
        """Return the pattern of the entries that are not zero."""
        import numpy as np
        import torch

        return cls(torch.from_numpy(np.packbits((kept != 0).cpu().numpy(), axis=-1)))

    def __call__(self, own: Float[Tensor, " *weight"]) -> Float[Tensor, " *weight"]:
        """Return what a weight becomes, on its device and in its dtype."""
        return own.masked_fill(~self.mask(own.shape[-1]).to(own.device), 0)

    def mask(self, columns: int) -> torch.Tensor:
        """Return True for each entry that stays, in rows of so many columns."""
        import numpy as np
        import torch

        return torch.from_numpy(np.unpackbits(self.kept.cpu().numpy(), axis=-1, count=columns).astype(bool))

    def fits(self, own: Float[Tensor, " *weight"]) -> bool:
        """Tell whether a weight has the shape that this is for."""
        return (*own.shape[:-1], -(-own.shape[-1] // 8)) == tuple(self.kept.shape)

    @property
    def tensors(self) -> dict[str, UInt8[Tensor, " *any"]]:
        """Its tensors, by name."""
        return {"kept": self.kept}


#: A tensor takes the place of the weight.
WeightChange: TypeAlias = "Tensor | LowRankUpdate | SparsityPattern"


def change_weight(own: Float[Tensor, " *weight"], change: WeightChange) -> Float[Tensor, " *weight"]:
    """Return what a weight becomes."""
    return change(own) if isinstance(change, LowRankUpdate | SparsityPattern) else change.to(own.device)


def fits_weight(own: Float[Tensor, " *weight"], change: WeightChange) -> bool:
    """Tell whether a change is for a weight of this shape and, where it takes the weight's place, dtype."""
    if isinstance(change, LowRankUpdate | SparsityPattern):
        return change.fits(own)
    return (change.shape, change.dtype) == (own.shape, own.dtype)


def name_tensors(name: str, change: WeightChange) -> dict[str, Float[Tensor, " *any"] | UInt8[Tensor, " *any"]]:
    """Return the tensors of a change as they are named in a file: `NAME`, `NAME:left`."""
    if isinstance(change, LowRankUpdate | SparsityPattern):
        return {f"{name}:{part}": tensor for part, tensor in change.tensors.items()}
    return {name: change}


def build_change(parts: Mapping[str, Tensor]) -> WeightChange:
    """Return a change of its tensors by the names of its parts; a tensor that takes the weight's place has none.

    Raises TypeError: they are those of no change.
    """
    if set(parts) == {""}:
        return parts[""]
    return LowRankUpdate(**parts) if "left" in parts else SparsityPattern(**parts)
