"""LoadedModel, Mask -> Costs: what the model needs with and without what is off."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from explorer.anatomy import Family
from explorer.masks import PARTS, Mask
from explorer.records import Costs

Counts = tuple[int, int, int]
Size = Callable[[Any], int]


@dataclass(frozen=True)
class Inventory:
    """The counts that every cost follows from.

    Args:
        total: parameters of the whole model, tied ones once.
        total_bytes: bytes of their storage, with what quantization keeps beside them.
        looked_up: parameters of the embedding that no product uses (0 where the head is tied to it).
        layers: for each layer, parameters of its attention, of its MLP, and of all of it.
        layer_bytes: bytes of the same.
        idle: for each layer, parameters of experts beyond those that a token is sent to.
        reach: for each layer, tokens of the context that its attention sees; infinite where it sees all, 0 where the
            checkpoint has no attention.
        kv_entries: numbers in one layer's KV cache for one token.
        attention_width: heads x head_dim.
        itemsize: bytes of a number in the KV cache.
    """

    total: int
    total_bytes: int
    looked_up: int
    layers: tuple[Counts, ...]
    layer_bytes: tuple[Counts, ...]
    idle: tuple[int, ...]
    reach: tuple[float, ...]
    kv_entries: int
    attention_width: int
    itemsize: int

    def costs(self, mask: Mask, context: int) -> Costs:
        """Return what the model needs under a mask.

        A site that is off takes its parameters along, a layer that is off its norms too. Only attention has a KV cache.
        FLOPs per token are 2 a parameter that multiplies, experts that the token is not sent to left out, and 4 x
        heads x head_dim x context for every attention that is on, at the end of a context of so many tokens, of which
        attention with a sliding window sees a window.
        """
        parameters = self.total - _sum_off(self.layers, mask)
        idle = sum(idle for layer, idle in enumerate(self.idle) if not mask.off(layer)[1])
        return Costs(
            parameters=parameters,
            bytes=self.total_bytes - _sum_off(self.layer_bytes, mask),
            kv_bytes_per_token=self.kv_bytes(mask, 1),
            flops_per_token=2 * (parameters - self.looked_up - idle)
            + 4 * self.attention_width * self._seen(mask, context),
        )

    def kv_bytes(self, mask: Mask, context: int) -> int:
        """Bytes of the KV cache of so many tokens, under a mask."""
        return self._seen(mask, context) * self.kv_entries * self.itemsize

    def _seen(self, mask: Mask, context: int) -> int:
        """Tokens of a context that attention sees, summed over the layers where it is on."""
        return sum(int(min(reach, context)) for layer, reach in enumerate(self.reach) if not mask.off(layer)[0])

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
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    layers = model.get_submodule(family.layers)
    counts = tuple(_of_layer(layer, family, _numel) for layer in layers)
    return Inventory(
        total=_total(model, _numel),
        total_bytes=_total(model, _nbytes),
        looked_up=0 if config.tie_word_embeddings or head is embedding else embedding.numel(),
        layers=counts,
        layer_bytes=tuple(_of_layer(layer, family, _nbytes) for layer in layers),
        idle=tuple(_count_idle(layer, family, config) for layer in layers),
        reach=tuple(_find_reach(config, layer) if attention else 0 for layer, (attention, _, _) in enumerate(counts)),
        kv_entries=2 * _count_kv_heads(config) * head_dim,
        attention_width=heads * head_dim,
        itemsize=model.dtype.itemsize,
    )


def _count_kv_heads(config: Any) -> int:
    """Heads in the KV cache as transformers keeps it: Falcon's newer form repeats its few for every head."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def _count_idle(layer: nn.Module, family: Family, config: Any) -> int:
    """Parameters of a layer's experts, all alike, beyond those that a token is sent to."""
    experts = getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None)
    used = getattr(config, "num_experts_per_tok", None)
    if not experts or not used:
        return 0
    named = (each for name in family.mlp for each in getattr(layer, name).named_parameters())
    return (
        sum(_numel(parameter) for name, parameter in named if "experts" in name.split("."))
        * (experts - used)
        // experts
    )


def _find_reach(config: Any, layer: int) -> float:
    """Tokens that a layer's attention sees at most."""
    window: Any = getattr(config, "sliding_window", None)
    kinds: Any = getattr(config, "layer_types", None)
    slides = bool(window) and (kinds is None or kinds[layer] == "sliding_attention")
    return float(window) if slides else math.inf


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
