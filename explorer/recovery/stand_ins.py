"""What is read and what is missing at a place -> what stands in for it, place by place in the order of the stream."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from explorer.deltas import StandIn, list_places
from explorer.modifiers import Fitted, Pairs, Setting


def fit_stand_ins(setting: Setting, fit: Callable[[Setting, Iterable[Pairs]], StandIn]) -> Fitted:
    """Fit what stands in for each place that is off, on what the variant gives it with those before in place."""
    for place in setting.steps(list_places(setting.mask), lambda place: f"Standing in for {place}"):
        with torch.inference_mode():
            made = fit(setting, setting.pairs(place))
        dtype = setting.loaded.model.dtype
        cast = {name: tensor.to(dtype).contiguous() for name, tensor in made.tensors.items()}
        setting.stand_in(place, StandIn(**cast))
    return setting.fitted
