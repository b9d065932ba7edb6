"""LoadedModel, Mask -> Costs: what the model needs with and without what is off."""

from __future__ import annotations

from typing import Any

from torch import nn

from explorer.anatomy import Family
from explorer.masks import Mask, Site
from explorer.records import Costs


def site_parameters(layer: nn.Module, family: Family) -> dict[str, int]:
    """Count the parameters of a layer's sites, and under `layer` those of the whole layer with its norms."""
    return {
        "attention": _count(getattr(layer, family.attention)),
        "mlp": _count(getattr(layer, family.mlp)),
        "layer": _count(layer),
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def kv_entries(config: Any) -> int:
    """Numbers that one layer's KV cache holds for one token: keys and values of every KV head."""
    heads = config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    return 2 * kv_heads * head_dim


def count_costs(model: Any, family: Family, mask: Mask, context: int) -> Costs:
    """Count what the model needs under a mask.

    A site that is off takes its parameters along, a layer that is off its norms too; only attention has a KV cache.
    FLOPs per token are 2 a matrix parameter in use (the embedding is looked up, the head is used even where it is
    tied) and, for attention at the end of a context of this many tokens, 4 x heads x head_dim x context.
    """
    config = model.config.get_text_config(decoder=True)
    layers = list(model.get_submodule(family.layers))
    total, attending = _count(model), 0
    embedding = model.get_input_embeddings().weight.numel()
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for index, layer in enumerate(layers):
        counts = site_parameters(layer, family)
        attention_off, mlp_off = mask.off(index)
        attending += not attention_off
        if attention_off and mlp_off:
            total -= counts["layer"]
        else:
            total -= counts["attention"] * attention_off + counts["mlp"] * mlp_off
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Costs(
        parameters=total,
        bytes=total * model.dtype.itemsize,
        kv_bytes_per_token=attending * kv_entries(config) * model.dtype.itemsize,
        flops_per_token=2 * (total if tied else total - embedding)
        + 4 * attending * config.num_attention_heads * head_dim * context,
    )


def describe_sites(model: Any, family: Family) -> list[dict[str, Any]]:
    """List every site with its parameters, layer by layer."""
    return [
        {"site": str(Site(index, part)), "layer": index, "part": part, "parameters": counts[part]}
        for index, layer in enumerate(model.get_submodule(family.layers))
        if (counts := site_parameters(layer, family))
        for part in ("attention", "mlp")
    ]
