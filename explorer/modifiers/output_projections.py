"""A site -> the one linear map by which it writes to the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from explorer.masks import Site
from explorer.model import LoadedModel


@dataclass(frozen=True)
class OutputProjection:
    """A linear map whose output is what a site gives.

    Args:
        name: of the module in its layer.
        module: the module.
    """

    name: str
    module: nn.Module

    @property
    def weight(self) -> Float[Tensor, "outputs values"]:
        """The weights as (outputs, inputs)."""
        return self.read(self.module.weight.detach())  # type: ignore[operator]

    def read(self, weight: Float[Tensor, " *weight"]) -> Float[Tensor, "outputs values"]:
        """Return weights in the shape that the module has them in as (outputs, inputs)."""
        return weight.T if isinstance(self.module, Conv1D) else weight

    def like(self, weight: Float[Tensor, "outputs values"]) -> Float[Tensor, " *weight"]:
        """Return weights of (outputs, inputs) in the shape and dtype that the module has them in."""
        own: Tensor = self.module.weight  # type: ignore[assignment]
        return (weight.T if isinstance(self.module, Conv1D) else weight).to(own.dtype).contiguous()


def find_output_projection(loaded: LoadedModel, site: Site) -> OutputProjection | None:
    """Return a site's output projection; None where it has none, several, or a norm behind it."""
    architecture = loaded.architecture.at(site.layer)
    if architecture.update(site.part) not in architecture.modules(site.part):
        return None
    layer = loaded.wrappers.layers[site.layer]
    found = [
        (name, module)
        for name, module in layer.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and architecture.writes(site.part, f"{name}.weight")
    ]
    if len(found) != 1 or found[0][1].weight.is_meta or not found[0][1].weight.is_floating_point():
        return None
    return OutputProjection(*found[0])
