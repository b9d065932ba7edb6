"""A transformers model, its Architecture -> its CostModel: parameters, bytes and cache entries of every part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from explorer.masks import PARTS, Part
from explorer.model.architecture import BESIDE, Architecture, has_own_head, has_stand_in
from explorer.model.cost_model import CostModel, Counts
from explorer.model.kv_cache import measure_cache, read_cache

Size = Callable[[Any], int]


def count_parameters(model: Any, architecture: Architecture) -> CostModel:
    """Count a transformers model's parameters and cache entries."""
    config = model.config.get_text_config(decoder=True)
    layers = model.get_submodule(architecture.layers)
    each = [(layer, architecture.at(index)) for index, layer in enumerate(layers)]
    counts = tuple(_of_layer(*pair, _numel) for pair in each)
    kept = measure_cache(model) or tuple(read_cache(model.config, layer) for layer in range(len(layers)))
    return CostModel(
        total=_total(model, _numel),
        total_bytes=_total(model, _nbytes),
        embedding_parameters=_count_embeddings(model, architecture),
        layers=counts,
        layer_bytes=tuple(_of_layer(*pair, _nbytes) for pair in each),
        inactive_expert_parameters=tuple(
            (_count_inactive(*pair, config, "attention"), _count_inactive(*pair, config, "mlp")) for pair in each
        ),
        attention_span=tuple(
            entry.attention_span if _attends(layer, own, counted) else 0
            for entry, counted, (layer, own) in zip(kept, counts, each, strict=True)
        ),
        kv_entries=tuple(entry.entries for entry in kept),
        state_bytes=tuple(entry.state_bytes for entry in kept),
        attention_widths=tuple(entry.width for entry in kept),
        itemsize=model.dtype.itemsize,
        hands_on=architecture.hands_on or (),
    )


def _attends(layer: nn.Module, architecture: Architecture, counted: Counts) -> bool:
    """Tell whether a layer has attention of its own; of whole layers it is not told apart."""
    return bool(architecture.whole or (counted[0] and not has_stand_in(layer, *architecture.attention)))


#: What families call the number of experts, and of those that a token is sent to.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts")
_USED = ("top_k", "num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk", "moe_k", "top_k_experts")


def _count_embeddings(model: Any, architecture: Architecture) -> int:
    """Parameters that no product uses for a token of text: tables of embeddings, and what is outside of the decoder.

    A table that is the head's, too, is multiplied.
    """
    decoder, head = model.get_submodule(architecture.decoder), model.get_output_embeddings()
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if not has_own_head(model):
        tables.discard(id(model.get_input_embeddings().weight))
    inside = {id(each): each for each in (*decoder.parameters(), *head.parameters())}
    return _total(model, _numel) - sum(_numel(each) for key, each in inside.items() if key not in tables)


def _count_inactive(layer: nn.Module, architecture: Architecture, config: Any, part: Part) -> int:
    """Parameters of a site's experts, all alike, beyond those that a token is sent to.

    Experts are a list of modules, or one tensor with an entry for each. Shared ones, which always run, are neither.
    """
    inactive_expert_parameters = 0
    for site in (getattr(layer, name) for name in architecture.modules(part)):
        modules = list(site.modules())
        experts, used = (_find_count(names, (*modules, config)) for names in (_EXPERTS, _USED))
        if not experts or not used:
            continue
        routed = sum(
            _numel(parameter)
            for name, parameter in site.named_parameters()
            if "experts" in name.split(".") or (parameter.dim() > 2 and parameter.shape[0] == experts)
        )
        inactive_expert_parameters += routed * max(experts - used, 0) // experts
    return inactive_expert_parameters


def routes_tokens(layers: Iterable[nn.Module], architecture: Architecture, config: Any) -> bool:
    """Tell whether any layer sends a token to some of its experts only, so that they see what the batch sends them."""
    return any(
        _count_inactive(layer, architecture.at(index), config, part)
        for index, layer in enumerate(layers)
        for part in PARTS
    )


def _find_count(names: tuple[str, ...], places: tuple[Any, ...]) -> int:
    """Return the first whole number under one of these names, the places in their order; 0 if there is none."""
    found = (getattr(place, name, None) for place in places for name in names)
    return next((number for number in found if isinstance(number, int) and number > 0), 0)


def _of_layer(layer: nn.Module, architecture: Architecture, size: Size) -> Counts:
    """Count attention, MLP and all of a layer, but what stands in beside it: that stays where the layer goes."""
    attention, mlp = (sum(_total(getattr(layer, name), size) for name in architecture.modules(part)) for part in PARTS)
    beside = sum(_total(getattr(layer, name), size) for name in BESIDE if hasattr(layer, name))
    return attention, mlp, _total(layer, size) - beside


def _total(module: nn.Module, size: Size) -> int:
    return sum(size(parameter) for parameter in module.parameters())


def _numel(parameter: Any) -> int:
    """Numbers that a parameter stands for, packed or not."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else state.shape.numel()


def _nbytes(parameter: Any) -> int:
    """Bytes of a parameter and of the scales that quantization keeps beside it."""
    scales = 4 * len(parameter) if parameter.dtype == torch.int8 else 0
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        scales += sum(t.nbytes for t in (state.absmax, state.code, state.offset) if t is not None)
        state = state.state2
    return parameter.nbytes + scales
