"""Variant -> what its deltas change, the later winning; refused where it does not fit the model or the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor

from explorer.deltas import Delta, ModifierSpec, StandIn, Variant, list_places
from explorer.errors import ExportError
from explorer.export.formats import Format
from explorer.masks import Mask
from explorer.model import LoadedModel

_REMEDY = "Make it anew with this model"


@dataclass(frozen=True)
class Changes:
    """What deltas change.

    Args:
        weights: a parameter's name in the model -> what takes its place.
        stand_ins: place that is off -> what stands in for it, in the order of the stream.
        makers: place -> what made what stands in for it.
    """

    weights: Mapping[str, Float[Tensor, " *weight"]] = field(default_factory=dict)
    stand_ins: Mapping[Mask, StandIn] = field(default_factory=dict)
    makers: Mapping[Mask, ModifierSpec] = field(default_factory=dict)

    @property
    def parameters_added(self) -> int:
        """Numbers in what stands in."""
        return sum(tensor.numel() for each in self.stand_ins.values() for tensor in each.tensors.values())

    def refuse_stand_ins(self, target: Format) -> None:
        """Raise ExportError if something stands in for what is off: the format has no place for it."""
        for place, maker in self.makers.items():
            raise ExportError(
                f"{target.name} has no place for what stands in",
                f"{maker} at {place}",
                "Use --format pruned-remote-code",
            )

    def refuse(self, target: Format) -> None:
        """Raise ExportError if anything is changed."""
        self.refuse_stand_ins(target)
        for name in self.weights:
            raise ExportError(
                f"{target.name} cannot carry changed weights", name, "Use --format transformers or transformers-zeroed"
            )


def gather_changes(loaded: LoadedModel, variant: Mask | Variant) -> Changes:
    """Collect what a variant's deltas change.

    Raises ExportError: a delta is of another model, or what it has does not fit this one.
    """
    weights: dict[str, Tensor] = {}
    stand_ins: dict[Mask, StandIn] = {}
    makers: dict[Mask, ModifierSpec] = {}
    for delta in variant.deltas:
        if delta.origin.base != loaded.digest:
            raise ExportError("The delta is of another model", f"{delta.modifier} of {delta.origin.base}", _REMEDY)
        weights |= _name(loaded, delta)
        for place, stand_in in delta.stand_ins.items():
            _check_width(loaded, delta, place, stand_in)
        stand_ins |= delta.stand_ins
        makers |= dict.fromkeys(delta.stand_ins, delta.modifier)
    ordered = [place for place in list_places(variant.mask) if place in stand_ins]
    return Changes(weights, {p: stand_ins[p] for p in ordered}, {p: makers[p] for p in ordered})


def _name(loaded: LoadedModel, delta: Delta) -> dict[str, Float[Tensor, " *weight"]]:
    """Return a delta's weights by their names in the model."""
    named = {}
    for layer, weights in delta.weights.items():
        own: dict[str, Any] = dict(loaded.wrappers.layers[layer].named_parameters()) if layer < loaded.n_layers else {}
        for name, tensor in weights.items():
            if name not in own:
                raise ExportError("The delta does not fit the model", f"there is no {name} in layer {layer}", _REMEDY)
            if (own[name].shape, own[name].dtype) != (tensor.shape, tensor.dtype):
                found = f"{name} of layer {layer} is {_describe(tensor)}, the model's {_describe(own[name])}"
                raise ExportError("The delta does not fit the model", found, _REMEDY)
            named[f"{loaded.architecture.layers}.{layer}.{name}"] = tensor
    return named


def _check_width(loaded: LoadedModel, delta: Delta, place: Mask, stand_in: StandIn) -> None:
    width = loaded.config.hidden_size
    for name, tensor in stand_in.tensors.items():
        sides = {"weight": (0, 1), "down": (0,), "up": (1,), "bias": (0,)}.get(name, ())
        wide = tensor.numel() in (1, width) if name == "scale" else all(tensor.shape[side] == width for side in sides)
        if not wide or tensor.dtype != loaded.model.dtype:
            found = f"{delta.modifier} at {place} has a {name} of {_describe(tensor)}, the model is {width} wide"
            raise ExportError("The delta does not fit the model", f"{found}, {loaded.dtype}", _REMEDY)


def _describe(tensor: Float[Tensor, " *any"]) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return f"{' x '.join(map(str, tensor.shape))}, {dtype}"
