"""LoadedModel, Variant -> its twin: a model over the same weights that runs the variant and can be trained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from explorer.deltas import Delta, StandIn, Variant
from explorer.model.changed_weights import list_changes
from explorer.model.forward_policies import Forward, Hidden, Ids
from explorer.model.layer_surgery import add_beside, copy_sharing, is_packed
from explorer.model.loading import LoadedModel
from explorer.model.wrappers import ModelWrappers


@dataclass(frozen=True)
class Twin:
    """A model over the weights of another.

    Args:
        model: shares each parameter and buffer that no delta changed.
        wrappers: of its own.
        variant: what is off, and what stands in for it; changed weights are the model's own.
        layers: path of its layers.
    """

    model: Any
    wrappers: ModelWrappers
    variant: Variant
    layers: str

    def running(self) -> AbstractContextManager[None]:
        """Run the variant in the block."""
        return self.wrappers.as_variant(self.variant)

    def run_between(self, layer: int, until: int, forward: Forward, hidden: Hidden, ids: Ids) -> Hidden:
        """Return the residual stream before a layer, of that before another, the only one between that is on.

        Args:
            layer: the one that is run.
            until: the one before which the stream is wanted; L for the end.
            forward: runs `layer`, given what the model passes to it.
            hidden: its input.
            ids: of the windows.
        """
        calls = self.wrappers.layer_inputs(ids).calls
        with self.running():
            hidden = self.wrappers.run_call(forward, hidden, calls[layer])
            for passed in range(layer + 1, until):
                hidden = self.wrappers.run_layer(passed, hidden, calls[passed])
        return hidden


def make_twin(loaded: LoadedModel, variant: Variant, adapt: Callable[[Any], None] = lambda model: None) -> Twin:
    """Make a model that shares the weights of another, but for what a variant changes.

    Args:
        loaded: the model; whatever is done to its twin's modules, it does not see.
        variant: what is off, and changed.
        adapt: given the twin before it is wrapped, to put modules of another kind in.
    """
    model, layers = copy_sharing(loaded.model), loaded.architecture.layers
    places = {
        (layer, name): None for delta in variant.deltas for layer, named in delta.weights.items() for name in named
    }
    for layer, name in places:
        path, _, leaf = f"{loaded.wrappers.path(layer)}.{name}".rpartition(".")
        if is_packed(model.get_submodule(path).get_parameter(leaf)):
            add_beside(model.get_submodule(path), list_changes(variant.deltas, layer, name))
            continue
        changed = loaded.wrappers.weight(layer, name, variant.deltas).clone()
        setattr(model.get_submodule(path), leaf, nn.Parameter(changed, requires_grad=False))
    adapt(model)
    return Twin(model, ModelWrappers(model, loaded.architecture), _without_weights(variant), layers)


def _without_weights(variant: Variant) -> Variant:
    """Return a variant with nothing but what stands in, in tensors that a gradient can pass by."""
    bare = Variant(variant.mask)
    for delta in variant.deltas:
        if delta.stand_ins:
            origin = replace(delta.origin, below=tuple(each.digest for each in bare.deltas))
            stand_ins = {place: _copy(each) for place, each in delta.stand_ins.items()}
            bare = Variant(variant.mask, (*bare.deltas, Delta(origin, {}, stand_ins)))
    return bare


def _copy(stand_in: StandIn) -> StandIn:
    return StandIn(**{name: torch.clone(tensor) for name, tensor in stand_in.tensors.items()})
