"""Layout, config -> a config in transformers' own spelling of what is off, `per_layer_config`, where it is obeyed."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

from explorer.errors import ExportError
from explorer.export.tensor_layout import Layout
from explorer.masks import PARTS, Site

_KEY = "per_layer_config"
_TINY: dict[str, Any] = {
    "vocab_size": 8, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip


def check_obeyed() -> None:
    """Raise ExportError unless transformers, as it is installed, leaves out what a config lets it skip."""
    if not _is_obeyed():
        found = f"transformers {transformers.__version__} gives the same logits with skip in {_KEY} and without"
        raise ExportError("What is skipped would be run all the same", found, "Use --format pruned-remote-code")


@cache
def _is_obeyed() -> bool:
    """Tell whether each part that a config skips changes the logits of a tiny Llama."""
    return not any(torch.equal(_find_logits({}), _find_logits({0: {"skip": [part]}})) for part in PARTS)


@torch.inference_mode()
def _find_logits(each: dict[int, dict[str, Any]]) -> Any:
    """Return the logits of a tiny Llama with entries for single layers; its weights do not depend on them."""
    config = LlamaConfig(**_TINY | ({_KEY: each} if each else {}))
    with torch.random.fork_rng(devices=[]):  # making it draws weights
        model = LlamaForCausalLM(config).eval()
    for tensor in model.parameters():
        tensor.copy_(torch.linspace(-1, 1, tensor.numel()).view_as(tensor))
    return model(torch.arange(6)[None]).logits


def dress_config(config: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Return config.json of `transformers-skip`: what is off, layer by layer, in their new numbers."""
    each: dict[str, Any] = dict(config.get(_KEY) or {})
    for new, old in enumerate(layout.kept):
        if skipped := [part for part in PARTS if Site(old, part) in layout.dropped_sites]:
            each[str(new)] = {**each.get(str(new), {}), "skip": skipped}
    return {**config, _KEY: each} if each else config
