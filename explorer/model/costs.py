"""LoadedModel, Mask -> Costs: what the model needs with and without what is off."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from explorer.masks.mask import PARTS, Mask, Part
from explorer.model.architecture import Family, has_own_head
from explorer.model.kv_cache import measure_cache, read_cache
from explorer.records import Costs

Counts = tuple[int, int, int]
Size = Callable[[Any], int]


@dataclass(frozen=True)
class Inventory:
    """The counts that every cost follows from.

    Args:
        total: parameters of the whole model, tied ones once.
        total_bytes: bytes of their storage, with what quantization keeps beside them.
        looked_up: parameters that no product uses for a token of text: embeddings but a tied head's, other towers.
        layers: for each layer, parameters of its attention, of its MLP, and of all of it.
        layer_bytes: bytes of the same.
        idle: for each layer, parameters of experts beyond those that a token is sent to, in its attention and its MLP.
        reach: for each layer, tokens of the context that its attention sees; infinite where it sees all, 0 where the
            checkpoint has no attention, or one that keeps a state in place of tokens.
        kv_entries: for each layer, numbers in its KV cache for one token.
        attention_widths: for each layer, heads x (width of a key + width of a value).
        itemsize: bytes of a number in the KV cache.
    """

    total: int
    total_bytes: int
    looked_up: int
    layers: tuple[Counts, ...]
    layer_bytes: tuple[Counts, ...]
    idle: tuple[tuple[int, int], ...]
    reach: tuple[float, ...]
    kv_entries: tuple[int, ...]
    attention_widths: tuple[int, ...]
    itemsize: int

    def costs(self, mask: Mask, context: int) -> Costs:
        """Return what the model needs under a mask.

        A site that is off takes its parameters along, a layer that is off its norms too. Only attention has a KV cache.
        FLOPs per token are 2 a parameter that multiplies, experts that the token is not sent to left out, and 2 x
        heads x (key + value width) x context for every attention that is on, at the end of a context of so many tokens,
        of which attention with a sliding window sees a window.
        """
        parameters = self.total - _sum_off(self.layers, mask)
        idle = sum(
            idle
            for layer, sites in enumerate(self.idle)
            for idle, off in zip(sites, mask.off(layer), strict=True)
            if not off
        )
        return Costs(
            parameters=parameters,
            bytes=self.total_bytes - _sum_off(self.layer_bytes, mask),
            kv_bytes_per_token=self.kv_bytes(mask, 1),
            flops_per_token=2
            * (parameters - self.looked_up - idle + self._look_back(self.attention_widths, mask, context)),
        )

    def kv_bytes(self, mask: Mask, context: int) -> int:
        """Bytes of the KV cache of so many tokens, under a mask."""
        return self._look_back(self.kv_entries, mask, context) * self.itemsize

    def _look_back(self, each: tuple[int, ...], mask: Mask, context: int) -> int:
        """Sum what a layer has for each token of a context that its attention sees, over the layers where it is on."""
        return sum(
            number * int(min(reach, context))
            for layer, (number, reach) in enumerate(zip(each, self.reach, strict=True))
            if not mask.off(layer)[0]
        )

    def kind(self, layer: int) -> tuple:
        """Return all that a layer's costs depend on: equal for layers that are alike."""
        each = self.layers, self.layer_bytes, self.idle, self.reach, self.kv_entries, self.attention_widths
        return tuple(values[layer] for values in each)

    def sites(self) -> list[dict[str, Any]]:
        """List every site with its parameters, layer by layer, attention first."""
        return [
            {"site": f"{part[0]}{layer}", "layer": layer, "part": part, "parameters": counts[PARTS.index(part)]}
            for layer, counts in enumerate(self.layers)
            for part in PARTS
        ]


def _sum_off(layers: tuple[Counts, ...], mask: Mask) -> int:
    """Sum over the layers what a mask takes away of their (attention, mlp, layer)."""
    off = 0
    for index, (attention, mlp, layer) in enumerate(layers):
        attention_off, mlp_off = mask.off(index)
        off += layer if attention_off and mlp_off else attention * attention_off + mlp * mlp_off
    return off


def take_inventory(model: Any, family: Family) -> Inventory:
    """Count a transformers model's parameters and cache entries."""
    config = model.config.get_text_config(decoder=True)
    layers = model.get_submodule(family.layers)
    counts = tuple(_of_layer(layer, family, _numel) for layer in layers)
    kept = measure_cache(model) or tuple(read_cache(model.config, layer) for layer in range(len(layers)))
    return Inventory(
        total=_total(model, _numel),
        total_bytes=_total(model, _nbytes),
        looked_up=_count_looked_up(model, family),
        layers=counts,
        layer_bytes=tuple(_of_layer(layer, family, _nbytes) for layer in layers),
        idle=tuple(
            (_count_idle(layer, family, config, "attention"), _count_idle(layer, family, config, "mlp"))
            for layer in layers
        ),
        reach=tuple(each.reach if counted[0] else 0 for each, counted in zip(kept, counts, strict=True)),
        kv_entries=tuple(each.entries for each in kept),
        attention_widths=tuple(each.width for each in kept),
        itemsize=model.dtype.itemsize,
    )


#: What families call the number of experts, and of those that a token is sent to.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_moe_experts")
_USED = ("top_k", "num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk", "moe_k", "top_k_experts")


def _count_looked_up(model: Any, family: Family) -> int:
    """Parameters that no product uses for a token of text: tables of embeddings, and what is outside of the decoder.

    A table that is the head's, too, is multiplied.
    """
    decoder, head = model.get_submodule(family.decoder), model.get_output_embeddings()
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if not has_own_head(model):
        tables.discard(id(model.get_input_embeddings().weight))
    inside = {id(each): each for each in (*decoder.parameters(), *head.parameters())}
    return _total(model, _numel) - sum(_numel(each) for key, each in inside.items() if key not in tables)


def _count_idle(layer: nn.Module, family: Family, config: Any, part: Part) -> int:
    """Parameters of a site's experts, all alike, beyond those that a token is sent to.

    Experts are a list of modules, or one tensor with an entry for each. Shared ones, which always run, are neither.
    """
    idle = 0
    for site in (getattr(layer, name) for name in family.modules(part)):
        modules = list(site.modules())
        experts, used = (_find_count(names, (*modules, config)) for names in (_EXPERTS, _USED))
        if not experts or not used:
            continue
        routed = sum(
            _numel(parameter)
            for name, parameter in site.named_parameters()
            if "experts" in name.split(".") or (parameter.dim() > 2 and parameter.shape[0] == experts)
        )
        idle += routed * max(experts - used, 0) // experts
    return idle


def routes_tokens(layers: Iterable[nn.Module], family: Family, config: Any) -> bool:
    """Tell whether any layer sends a token to some of its experts only, so that they see what the batch sends them."""
    return any(_count_idle(layer, family, config, part) for layer in layers for part in PARTS)


def _find_count(names: tuple[str, ...], places: tuple[Any, ...]) -> int:
    """Return the first whole number under one of these names, the places in their order; 0 if there is none."""
    found = (getattr(place, name, None) for place in places for name in names)
    return next((number for number in found if isinstance(number, int) and number > 0), 0)


def _of_layer(layer: nn.Module, family: Family, size: Size) -> Counts:
    attention, mlp = (sum(_total(getattr(layer, name), size) for name in family.modules(part)) for part in PARTS)
    return attention, mlp, _total(layer, size)


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
