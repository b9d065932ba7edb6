"""Variant -> what its deltas change, the later winning; refused where it does not fit the model or the format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.deltas import (
    Delta,
    LowRankUpdate,
    ModifierSpec,
    StandIn,
    Variant,
    WeightChange,
    fits_weight,
    list_places,
    name_tensors,
)
from explorer.errors import ExportError
from explorer.export.formats import Format
from explorer.masks import Mask
from explorer.model import LoadedModel, ModelWrappers, has_own_head, is_packed

_REMEDY = "Make it anew with this model"


#: A parameter's name in the model -> what it becomes.
ChangedTensors: TypeAlias = Mapping[str, Float[Tensor, " *weight"]]


@dataclass(frozen=True)
class _Made(ChangedTensors):
    """What parameters become by deltas, each made when it is asked for.

    Args:
        wrappers: of the model.
        places: a parameter's name in the model -> its layer and its name there.
        deltas: in order.
    """

    wrappers: ModelWrappers
    places: Mapping[str, tuple[int, str]]
    deltas: tuple[Delta, ...]

    def __getitem__(self, name: str) -> Float[Tensor, " *weight"]:
        return self.wrappers.weight(*self.places[name], self.deltas)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class Changes:
    """What deltas change.

    Args:
        weights: a parameter's name in the model -> what it becomes.
        stand_ins: place that is off -> what stands in for it, in the order of the stream.
        makers: place -> what made what stands in for it.
        beside: names of quantized parameters that stay as they are, with an adapter beside them.
        untied: a name of `weights`: the head, where it is the embedding in the model; empty where that is not changed.
    """

    weights: ChangedTensors = field(default_factory=dict)
    stand_ins: Mapping[Mask, StandIn] = field(default_factory=dict)
    makers: Mapping[Mask, ModifierSpec] = field(default_factory=dict)
    beside: tuple[str, ...] = ()
    untied: str = ""

    @property
    def own_head(self) -> ChangedTensors:
        """The head's weights by name, where they were the embedding's."""
        return {self.untied: self.weights[self.untied]} if self.untied else {}

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

    def refuse_beside(self) -> None:
        """Raise ExportError if an adapter stands beside quantized weights: merged, both would be rounded."""
        if self.beside:
            raise ExportError(
                "An adapter over quantized weights is not merged", self.beside[0],
                "Use --format adapter, or --quantize none and --modify with the file of 'modify --out'",
            )  # fmt: skip

    def refuse_untied(self, target: Format) -> None:
        """Raise ExportError if the head is the embedding no longer: the format has no place for both."""
        if self.untied:
            raise ExportError(
                f"{target.name} has one place for the embedding and the head", f"{self.untied} is changed",
                "Use --format transformers, transformers-zeroed, deci or pruned-remote-code",
            )  # fmt: skip

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
    places: dict[str, tuple[int, str]] = {}
    stand_ins: dict[Mask, StandIn] = {}
    makers: dict[Mask, ModifierSpec] = {}
    for delta in variant.deltas:
        if delta.origin.base != loaded.digest:
            raise ExportError("The delta is of another model", f"{delta.modifier} of {delta.origin.base}", _REMEDY)
        places |= _find_places(loaded, delta)
        for place, stand_in in delta.stand_ins.items():
            _check_width(loaded, delta, place, stand_in)
        stand_ins |= delta.stand_ins
        makers |= dict.fromkeys(delta.stand_ins, delta.modifier)
    ordered = [place for place in list_places(variant.mask) if place in stand_ins]
    beside = tuple(name for name in places if is_packed(loaded.model.get_parameter(name)))
    merged = {name: place for name, place in places.items() if name not in beside}
    untied = "" if has_own_head(loaded.model) else f"{loaded.wrappers.path(loaded.n_layers)}.weight"
    return Changes(
        _Made(loaded.wrappers, merged, variant.deltas) if merged else {},
        {p: stand_ins[p] for p in ordered},
        {p: makers[p] for p in ordered},
        beside,
        untied if untied in merged else "",
    )


def _find_places(loaded: LoadedModel, delta: Delta) -> dict[str, tuple[int, str]]:
    """Return where the parameters are that a delta changes, by their names in the model."""
    places = {}
    for layer, weights in delta.weights.items():
        own: dict[str, Any] = dict(loaded.wrappers.module(layer).named_parameters()) if layer <= loaded.n_layers else {}
        for name, change in weights.items():
            if name not in own:
                raise ExportError("The delta does not fit the model", f"there is no {name} in layer {layer}", _REMEDY)
            if not _fits(own[name], change):
                given = " and ".join(map(_describe, name_tensors(name, change).values()))
                found = f"{name} of layer {layer} is {given}, the model's {_describe(own[name])}"
                raise ExportError("The delta does not fit the model", found, _REMEDY)
            places[f"{loaded.wrappers.path(layer)}.{name}"] = layer, name
    return places


def _fits(own: Any, change: WeightChange) -> bool:
    """Tell whether a change is for a parameter; one that is packed has its shape beside it."""
    if not is_packed(own):
        return fits_weight(own, change)
    return isinstance(change, LowRankUpdate) and change.fits(torch.empty(own.quant_state.shape, device="meta"))


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
