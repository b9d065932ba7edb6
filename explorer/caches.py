"""A model's config -> what its KV cache keeps of a token, layer by layer: the cache itself is asked.

A twin of the model, on torch's meta device, where tensors have shapes and no memory, runs two tokens with the cache
that transformers makes for it. So whatever a family calls its heads, or shares, or compresses, counts as it is kept.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

#: What a cache layer may keep of every token; convolutions and states of linear attention do not grow.
_GROWING = ("keys", "values", "indexer_keys")
_TOKENS = 2


@dataclass(frozen=True)
class Kept:
    """What one layer's cache holds, and what attention multiplies for a token that it looks at.

    Args:
        entries: numbers kept of a token; 0 for linear attention, and where another layer's are used.
        reach: tokens that attention sees at most; infinite where it sees all, 0 where the layer has no attention or
            none that looks back.
        width: heads x (width of a key + width of a value).
    """

    entries: int
    reach: float
    width: int


_KNOWN: WeakKeyDictionary[Any, tuple[Kept, ...] | None] = WeakKeyDictionary()


def measure_cache(model: Any) -> tuple[Kept, ...] | None:
    """Return what each layer's cache keeps of a token; None where the cache cannot be asked, as with foreign code."""
    if model not in _KNOWN:
        try:
            _KNOWN[model] = _ask_twin(model)
        except Exception:  # code of every family, on a device that it was not written for
            _KNOWN[model] = None
    return _KNOWN[model]


class _Attending(TorchFunctionMode):
    """Notes, of every attention in the order of layers, heads x (width of a key + width of a value)."""

    def __init__(self) -> None:
        super().__init__()
        self.widths: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, _, value = [*args, *((kwargs or {})[name] for name in ("query", "key", "value")[len(args) :])][:3]
            self.widths.append(query.shape[-3] * (query.shape[-1] + value.shape[-1]))
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def _ask_twin(model: Any) -> tuple[Kept, ...] | None:
    from transformers import DynamicCache

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        # any width of numbers gives the same shapes, and only this way of running experts needs no values
        twin = type(model)._from_config(config, dtype=torch.bfloat16, experts_implementation="batched_mm")
    cache = DynamicCache(config=twin.config)
    with _Attending() as attending:
        twin(torch.zeros((1, _TOKENS), dtype=torch.long, device="meta"), past_key_values=cache, use_cache=True)
    attends = [not linear for linear in cache.is_linear]
    holds = [getattr(layer, "keys", None) is not None for layer in cache.layers]
    seen = next((places for places in (attends, holds) if _divides(sum(places), len(attending.widths))), None)
    calls = len(attending.widths) // sum(seen) if seen else 0  # some attend twice a layer, and take the difference
    widths = iter([sum(attending.widths[start : start + calls]) for start in range(0, sum(seen or ()) * calls, calls)])
    return tuple(
        Kept(
            _count_entries(layer),
            _measure_reach(config, number, layer) if attends[number] else 0,
            (next(widths) if seen[number] else 0) if seen else _guess_width(config, number, layer),
        )
        for number, layer in enumerate(cache.layers)
    )


def _divides(layers: int, calls: int) -> bool:
    return layers > 0 and calls > 0 and calls % layers == 0


def _count_entries(layer: Any) -> int:
    held = [getattr(layer, name, None) for name in _GROWING]
    return sum(tensor.numel() // tensor.shape[-2] for tensor in held if isinstance(tensor, Tensor))


def _measure_reach(config: Any, number: int, layer: Any) -> float:
    """Tokens that a layer's attention sees at most; a layer that uses another's cache is as its type is."""
    window: Any = getattr(layer, "sliding_window", None)
    if window is None and getattr(layer, "keys", None) is None:
        return _find_reach(config, number)
    return math.inf if window is None else float(window)


def _guess_width(config: Any, number: int, layer: Any) -> int:
    """Width of attention that is written out: as many heads as the config says, keys and values as they are kept."""
    held = [getattr(layer, name, None) for name in ("keys", "values")]
    return _count_heads(config, number) * sum(tensor.shape[-1] for tensor in held if isinstance(tensor, Tensor))


def read_cache(config: Any, number: int) -> Kept:
    """Return what a config's names say that a layer's cache keeps, for a cache that cannot be asked."""
    decoder = config.get_text_config(decoder=True)
    heads = _count_heads(config, number)
    width = _pick(decoder, number, "head_dim") or decoder.hidden_size // heads
    if getattr(decoder, "multi_query", False) and not getattr(decoder, "new_decoder_architecture", False):
        cached = 1
    else:
        cached = _pick(decoder, number, "num_key_value_heads", "num_kv_heads") or heads
    return Kept(2 * cached * width, _find_reach(config, number), 2 * heads * width)


def _count_heads(config: Any, number: int) -> int:
    """Heads of a layer's attention, as a config names them: one number for all, or one for each."""
    return _pick(config.get_text_config(decoder=True), number, "num_attention_heads", "num_query_heads")


def _find_reach(config: Any, number: int) -> float:
    """Tokens that a layer's attention sees at most, as a config names its window."""
    decoder = config.get_text_config(decoder=True)
    window: Any = getattr(decoder, "sliding_window", None)
    kinds: Any = getattr(decoder, "layer_types", None)
    slides = bool(window) and (kinds is None or kinds[number] == "sliding_attention")
    return float(window) if slides else math.inf


def _pick(config: Any, number: int, *names: str) -> Any:
    """Value of the first of these names that a config has; of a list, the entry of a layer."""
    value = next((found for name in names if (found := getattr(config, name, None))), None)
    return value[number] if isinstance(value, (list, tuple)) else value
