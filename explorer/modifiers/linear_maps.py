"""A layer -> the linear maps of its attention and MLP; a site -> the one by which it writes to the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from explorer.masks import PARTS, Mask, Site
from explorer.model import LoadedModel


@dataclass(frozen=True)
class LinearMap:
    """A linear map in a layer.

    Args:
        name: of the module in its layer.
        module: the module.
    """

    name: str
    module: nn.Module

    @property
    def parameter(self) -> str:
        """Name of its weights in the layer."""
        return f"{self.name}.weight"

    @property
    def watched(self) -> str:
        """Name of the module in the layer that is given what it reads."""
        return self.name

    @property
    def own(self) -> Float[Tensor, " *weight"]:
        """The weights as the module has them."""
        return self.module.get_parameter("weight").detach()

    @property
    def is_transposed(self) -> bool:
        """Whether the module has them as (inputs, outputs)."""
        return isinstance(self.module, Conv1D)

    @property
    def weight(self) -> Float[Tensor, "*experts outputs values"]:
        """The weights as (outputs, inputs)."""
        return self.read(self.own)

    def read(self, weight: Float[Tensor, " *weight"]) -> Float[Tensor, "*experts outputs values"]:
        """Return weights in the shape that the module has them in as (outputs, inputs)."""
        return weight.mT if self.is_transposed else weight

    def like(self, weight: Float[Tensor, "*experts outputs values"]) -> Float[Tensor, " *weight"]:
        """Return weights of (outputs, inputs) in the shape and dtype that the module has them in."""
        return (weight.mT if self.is_transposed else weight).to(self.own.dtype).contiguous()


def find_output_projection(loaded: LoadedModel, site: Site) -> LinearMap | None:
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
    return LinearMap(*found[0])


def list_linear_maps(loaded: LoadedModel, layer: int, mask: Mask) -> list[LinearMap]:
    """List the linear maps of a layer's attention and MLP, of those that are on; experts in one tensor are none."""
    module = loaded.wrappers.layers[layer]
    return [
        LinearMap(name, each)
        for name, each in module.named_modules()
        if isinstance(each, (nn.Linear, Conv1D)) and any(_lies_in(name, site) for site in list_on(loaded, layer, mask))
    ]


def list_stacks(loaded: LoadedModel, layer: int, mask: Mask) -> list[str]:
    """List the parameters of a layer's attention and MLP, of those that are on, that hold the maps of many experts."""
    named = loaded.wrappers.layers[layer].named_parameters()
    sites = list_on(loaded, layer, mask)
    return [name for name, each in named if each.ndim == 3 and any(_lies_in(name, site) for site in sites)]


def list_on(loaded: LoadedModel, layer: int, mask: Mask) -> list[str]:
    """List the modules of a layer that are its attention or MLP and on."""
    parts = [part for part in PARTS if Site(layer, part) not in mask.sites]
    return [name for part in parts for name in loaded.architecture.modules(part)]


def _lies_in(name: str, module: str) -> bool:
    return f"{name}.".startswith(f"{module}.")
