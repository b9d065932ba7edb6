"""One scalar where the cut is: Prune&Comp, arXiv:2507.18212.

The authors multiply the embedding and all output projections before the cut by s, which with tied embeddings scales the
head, too. Here those after the cut are divided by it: the norms that read the stream are indifferent to its scale, and
embedding and head stay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float64
from torch import Tensor

from explorer.deltas import StandIn, list_places
from explorer.masks import PARTS, Site
from explorer.modifiers import Fitted, Modifier, Pairs, Setting, check_layers_only, find_output_projection
from explorer.recovery.stand_ins import fit_stand_ins


def find_ratios(
    pairs: Iterable[Pairs], basis: Float64[Tensor, "width width"] | None = None
) -> Float64[Tensor, " width"]:
    """Mean over windows of the mean size of a channel after what is off over that before it.

    Args:
        pairs: at a place.
        basis: whose columns are the channels; the model's own if None.
    """
    found = []
    for batch in pairs:
        before, after = batch.stream.double().cpu(), (batch.stream + batch.y).double().cpu()
        if basis is not None:
            before, after = before @ basis, after @ basis
        found.append(after.abs().mean(1) / before.abs().mean(1).clamp_min(1e-12))
    return torch.cat(found).mean(0)


def find_scale(setting: Setting, pairs: Iterable[Pairs]) -> StandIn:
    """The stream is scaled by s: the mean of those ratios over the channels."""
    return StandIn(scale=find_ratios(pairs).mean()[None] - 1)


def fit_scale(setting: Setting) -> Fitted:
    """Fit one scalar for each run of layers that is off; fold it into what is after it where that is possible."""
    check_layers_only(setting)
    made = fit_stand_ins(setting, find_scale)
    if not _folds(setting):
        return made
    weights: dict[int, dict[str, Tensor]] = {}
    scale = 1.0
    for layer in range(setting.loaded.n_layers):
        for place in list_places(setting.mask):
            if min(place.sites).layer == layer:
                scale *= 1 + float(made.stand_ins[place].scale)  # type: ignore[arg-type]
        if scale != 1 and layer not in setting.mask.whole_layers:
            weights[layer] = _divide(setting, layer, scale)
    return replace(made, weights=weights, stand_ins={})


def _folds(setting: Setting) -> bool:
    """Tell whether every site after the first cut adds what one projection gives, and nothing else scales it."""
    first = min(setting.mask.sites).layer
    loaded = setting.loaded
    return loaded.spec.quantize == "none" and all(
        find_output_projection(loaded, Site(layer, part)) is not None
        for layer in range(first, loaded.n_layers)
        if layer not in setting.mask.whole_layers
        for part in PARTS
    )


def _divide(setting: Setting, layer: int, scale: float) -> dict[str, Tensor]:
    """Return the output projections of a layer, biases too, divided by a scale."""
    made = {}
    for part in PARTS:
        projection = find_output_projection(setting.loaded, Site(layer, part))
        assert projection is not None
        for name, parameter in projection.module.named_parameters(recurse=False):
            made[f"{projection.name}.{name}"] = (parameter.detach().float() / scale).to(parameter.dtype)
    return made


SCALE = Modifier(
    "scale", "One scale", "Prune&Comp, arXiv:2507.18212", "weights",
    "What is added after removed layers is divided by how much those would have made the stream grow.",
    "one pass", fit_scale,
)  # fmt: skip
