"""The linear maps of many experts in one parameter, where transformers' interface of experts tells them apart."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.modifiers.linear_maps import LinearMap, list_stacks

#: What a module has that follows the interface: `transformers.integrations.moe`.
_INTERFACE = ("has_gate", "has_bias", "is_transposed", "_apply_gate")
_LAST = "down_proj"


@dataclass(frozen=True)
class ExpertMaps(LinearMap):
    """The maps of all experts of a layer, one into them or one out of them: weights as (experts, outputs, inputs).

    Args:
        name: of the parameter in its layer.
        module: that the experts are.
    """

    @property
    def parameter(self) -> str:
        """Name of its weights in the layer."""
        return self.name

    @property
    def watched(self) -> str:
        """Name of the module in the layer that is given what it reads, and the experts that each token is sent to."""
        return self.name.rpartition(".")[0]

    @property
    def own(self) -> Float[Tensor, " *weight"]:
        """The weights as the module has them."""
        return self.module.get_parameter(self.name.rpartition(".")[2]).detach()

    @property
    def is_transposed(self) -> bool:
        """Whether the module has them as (inputs, outputs) of each expert."""
        return bool(self.module.is_transposed)

    @property
    def first(self) -> ExpertMaps | None:
        """The maps into the experts, where these are those out of them."""
        if not self.name.endswith(_LAST):
            return None
        return ExpertMaps(f"{self.watched}.{'gate_up_proj' if self.module.has_gate else 'up_proj'}", self.module)

    def route(
        self, given: Float[Tensor, "positions width"], chosen: Int[Tensor, "positions chosen"]
    ) -> list[Float[Tensor, "_ width"]]:
        """Return the tokens that are sent to each expert, in their order.

        Args:
            given: what the module reads.
            chosen: numbers of the experts that each token is sent to.
        """
        return [given[(chosen == expert).any(-1)] for expert in range(len(self.own))]

    def activate(self, made: Float[Tensor, "positions _"]) -> Float[Tensor, "positions width"]:
        """Return what the maps out of the experts read, of what those into them made."""
        return self.module._apply_gate(made) if self.module.has_gate else self.module.act_fn(made)  # type: ignore[operator]


def list_expert_maps(loaded: LoadedModel, layer: int, mask: Mask) -> list[ExpertMaps]:
    """List the maps of experts in one parameter, of a layer's attention and MLP that are on, that are told apart."""
    get_module = loaded.wrappers.layers[layer].get_submodule
    found = [ExpertMaps(name, get_module(name.rpartition(".")[0])) for name in list_stacks(loaded, layer, mask)]
    return [each for each in found if all(hasattr(each.module, name) for name in _INTERFACE)]
