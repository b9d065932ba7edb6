"""What stands where something was removed."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from jaxtyping import Float

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class StandIn:
    """An affine map of what a removed part would have read to what is added in its place; None is left out.

    x -> scale x + x weight + (x down) up + bias, in that order.

    Args:
        scale: of the whole, or of each channel.
        weight: a map of full rank.
        down, up: a map of low rank.
        bias: what is added whatever x is.
    """

    scale: Float[Tensor, " 1"] | None = None
    weight: Float[Tensor, "width width"] | None = None
    down: Float[Tensor, "width rank"] | None = None
    up: Float[Tensor, "rank width"] | None = None
    bias: Float[Tensor, " width"] | None = None

    def __call__(self, x: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Return what is added for inputs."""
        added = x.new_zeros(()) if self.scale is None else x * self.scale
        if self.weight is not None:
            added = added + x @ self.weight
        if self.down is not None and self.up is not None:
            added = added + (x @ self.down) @ self.up
        if self.bias is not None:
            added = added + self.bias
        return added.expand_as(x).contiguous()  # some layers add to it in place

    def on(self, device: torch.device) -> StandIn:
        """Return this on a device; itself where it is there."""
        here = all(tensor.device == device for tensor in self.tensors.values())
        return self if here else StandIn(**{name: tensor.to(device) for name, tensor in self.tensors.items()})

    @property
    def tensors(self) -> dict[str, Float[Tensor, " *any"]]:
        """The tensors that it has, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: tensor for name, tensor in found.items() if tensor is not None}
