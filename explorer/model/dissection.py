"""A model recognised by structure -> what its sites add to the residual stream, found by experiment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from explorer.masks import PARTS
from explorer.model.architecture import Architecture, has_parameters, has_stand_in
from explorer.model.weights import find_input_device
from explorer.model.wrappers import see_children


@torch.inference_mode()
def find_updates(model: Any, architecture: Architecture) -> Architecture:
    """Find, for a model recognised by structure, which modules' outputs add up to what its first whole layer adds.

    Between a site and the residual stream there may be a norm. One pass shows what each of the layer's modules gives;
    the first two, of the sites or of norms after them, whose sum is the layer's output less its input are what is
    wanted. Where none fit the family is returned as it is, for the self-check to judge.
    """
    if not architecture.recognised:
        return architecture
    layers: list[nn.Module] = list(model.get_submodule(architecture.layers))
    sites = (*architecture.attention, *architecture.mlp)
    layer = next(
        (each for each in layers if has_parameters(each, *sites) and not has_stand_in(each, *sites)), layers[0]
    )
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    ids = torch.randint(vocabulary, (2, 8), generator=torch.Generator().manual_seed(0))
    given = see_children(model, layer, ids.to(find_input_device(model)))
    added = given[""][1].float() - given[""][0].float()
    names = [name for name, _ in layer.named_children() if name in given and given[name][1].numel() == added.numel()]
    norms = [name for name in names if name not in (*architecture.attention, *architecture.mlp)]
    tolerance = 16 * torch.finfo(given[""][1].dtype).eps * float(given[""][1].abs().max())
    for attention in (None, *norms):
        for mlp in (None, *norms):
            found = replace(architecture, attention_norm=attention, mlp_norm=mlp)
            updates = [given.get(found.update(part), given[""])[1].float().view(added.shape) for part in PARTS]
            if float((updates[0] + updates[1] - added).abs().max()) <= tolerance:
                return found
    return architecture
