"""One layer by itself, run window by window with weights that gradients reach: a region of Wanda++."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._pytree import tree_map

from explorer.model import Hidden
from explorer.sparsity.stream import Stream
from explorer.sparsity.targets import Target

#: Value of parameters by their names in the layer.
Weights = dict[str, Float[Tensor, " *weight"]]


class Region:
    """One layer in float32, whatever the model's dtype. Holds its weights once more, and what it gives.

    Args:
        stream: whose states the layer is run on, as it still is.
        target: its maps that get zeros.
    """

    def __init__(self, stream: Stream, target: Target) -> None:
        self.stream, self.target = stream, target
        self._calls = [_to_float32(call) for _, call in stream.run.calls(target.layer)]
        self._variant, wrappers = target.setting.variant, target.setting.loaded.wrappers
        with wrappers.in_memory(target.layer):
            names = [
                name for name, each in wrappers.layers[target.layer].named_parameters() if each.is_floating_point()
            ]
        self._own = {name: wrappers.weight(target.layer, name, self._variant.deltas).float() for name in names}
        self._outputs, self._known = stream.states.like(torch.float32), set[int]()

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self._calls)

    def copy_weights(self) -> Weights:
        """Return the weights of the maps, to be changed."""
        return {name: self._own[name].clone() for name in (each.parameter for each in self.target.maps)}

    def run(self, window: int, weights: Weights | None = None) -> Hidden:
        """Run the layer on one window, with other weights or as it is."""
        self.stream.run.layers_run += 1 / self.windows
        hidden = self.stream.states[window : window + 1].to(self.target.setting.loaded.device).float()
        values = self._own | (weights or {})
        wrappers = self.target.setting.loaded.wrappers
        return wrappers.try_layer(self.target.layer, values, hidden, self._calls[window], self._variant)

    @torch.no_grad()
    def output(self, window: int) -> Hidden:
        """Return what the layer gives as it is; of each window it is found once."""
        if window not in self._known:
            self._keep(window, self.run(window))
        return self._outputs[window : window + 1].to(self.target.setting.loaded.device)

    def _keep(self, window: int, output: Hidden) -> None:
        self._outputs[window : window + 1] = output.detach()
        self._known.add(window)

    @torch.enable_grad()
    def find_gradients(self) -> Weights:
        """G = sqrt(mean over windows of (d norm2(f(X_n)) / dW)^2), f the layer with its residual stream.

        Of one window at a time, so that what is squared is its own.
        """
        weights = {name: weight.requires_grad_() for name, weight in self.copy_weights().items()}
        squares = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
        for window in range(self.windows):
            output = self.run(window, weights)
            self._keep(window, output)
            found = torch.autograd.grad(output.norm(), list(weights.values()))
            for total, gradient in zip(squares.values(), found, strict=True):
                total += gradient.square()
        return {name: (total / self.windows).sqrt() for name, total in squares.items()}

    @torch.enable_grad()
    def approach(self, optimiser: torch.optim.Optimizer, weights: Weights, windows: Iterable[int]) -> None:
        """Take a step a window towards what the layer gives as it is: sum over its entries of the squared error."""
        for window in windows:
            optimiser.zero_grad()
            (self.run(window, weights) - self.output(window)).square().sum().backward()
            optimiser.step()


def _to_float32(call: tuple) -> tuple:
    """Return what a layer is called with, its numbers in float32."""
    return tree_map(lambda each: each.float() if _is_number(each) else each, call)


def _is_number(each: object) -> bool:
    return isinstance(each, Tensor) and each.is_floating_point()
