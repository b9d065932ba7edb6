"""LoadedModel, Mask -> Costs: what the model needs with and without what is off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from explorer.anatomy import Family
from explorer.masks import PARTS, Mask, Part
from explorer.records import Costs


@dataclass(frozen=True)
class Inventory:
    """The counts that every cost follows from.

    Args:
        total: parameters of the whole model, tied ones once.
        looked_up: parameters of the embedding that no product uses (0 where the head is tied to it).
        layers: for each layer, parameters of its attention, of its MLP, and of all of it.
        kv_entries: numbers in one layer's KV cache for one token.
        attention_width: heads x head_dim.
        itemsize: bytes of a number.
    """

    total: int
    looked_up: int
    layers: tuple[tuple[int, int, int], ...]
    kv_entries: int
    attention_width: int
    itemsize: int

    def costs(self, mask: Mask, context: int) -> Costs:
        """Return what the model needs under a mask.

        A site that is off takes its parameters along, a layer that is off its norms too; only attention has a KV
        cache. FLOPs per token are 2 a parameter that multiplies, and 4 x heads x head_dim x context for every
        attention that is on, at the end of a context of so many tokens.
        """
        removed, attending = 0, 0
        for index, (attention, mlp, layer) in enumerate(self.layers):
            attention_off, mlp_off = mask.off(index)
            attending += not attention_off
            removed += layer if attention_off and mlp_off else attention * attention_off + mlp * mlp_off
        parameters = self.total - removed
        return Costs(
            parameters=parameters,
            bytes=parameters * self.itemsize,
            kv_bytes_per_token=attending * self.kv_entries * self.itemsize,
            flops_per_token=2 * (parameters - self.looked_up) + 4 * attending * self.attention_width * context,
        )

    def sites(self) -> list[dict[str, Any]]:
        """List every site with its parameters, layer by layer, attention first."""
        return [
            {"site": f"{part[0]}{layer}", "layer": layer, "part": part, "parameters": counts[PARTS.index(part)]}
            for layer, counts in enumerate(self.layers)
            for part in PARTS
        ]


def take_inventory(model: Any, family: Family) -> Inventory:
    """Count a transformers model's parameters and cache entries."""
    config = model.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return Inventory(
        total=_count(model),
        looked_up=0 if head is embedding else embedding.numel(),
        layers=tuple(
            (_count_site(layer, family, "attention"), _count_site(layer, family, "mlp"), _count(layer))
            for layer in model.get_submodule(family.layers)
        ),
        kv_entries=2 * _count_kv_heads(config) * head_dim,
        attention_width=heads * head_dim,
        itemsize=model.dtype.itemsize,
    )


def _count_kv_heads(config: Any) -> int:
    """Heads in the KV cache as transformers keeps it: Falcon's newer form repeats its few for every head."""
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def _count_site(layer: nn.Module, family: Family, part: Part) -> int:
    return sum(_count(getattr(layer, name)) for name in family.modules(part))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
