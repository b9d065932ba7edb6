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

from explorer.model.cache_layers import keeps_state_alone

#: What a cache layer may keep of every token; convolutions and states of linear attention do not grow.
_GROWING = ("keys", "values", "indexer_keys")
_STATES = ("conv_states", "recurrent_states")
_TOKENS = 2


@dataclass(frozen=True)
class LayerCacheEntry:
    """What one layer's cache holds, and what attention multiplies for a token that it looks at.

    Args:
        entries: numbers kept of a token; 0 for linear attention, and where another layer's are used.
        attention_span: tokens that attention sees at most; infinite where it sees all, 0 where the layer has no
            attention or none that looks back.
        width: heads x (width of a key + width of a value).
        state_bytes: what is kept of a sequence, however long it is, in place of its tokens: states of linear attention
            and state spaces, the last inputs of convolutions; 0 where the cache cannot be asked.
    """

    entries: int
    attention_span: float
    width: int
    state_bytes: int = 0


_KNOWN: WeakKeyDictionary[Any, tuple[LayerCacheEntry, ...] | None] = WeakKeyDictionary()


def measure_cache(model: Any) -> tuple[LayerCacheEntry, ...] | None:
    """Return what each layer's cache keeps of a token; None where the cache cannot be asked, as with foreign code."""
    if model not in _KNOWN:
        run = _run_twin(model)
        _KNOWN[model] = None if run is None else _read_layers(*run)
    return _KNOWN[model]


class RecordAttentionWidths(TorchFunctionMode):
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
def _run_twin(model: Any) -> tuple[Any, Any, list[int]] | None:
    """Return the config, the cache and the widths of attention of a run of a model's twin; None if it does not run."""
    from transformers import DynamicCache

    config = copy.deepcopy(model.config)
    config.__dict__.pop("quantization_config", None)
    try:
        with torch.device("meta"):
            # only this way of running experts needs no values
            twin = type(model)._from_config(config, dtype=model.dtype, experts_implementation="batched_mm")
        cache = DynamicCache(config=twin.config)
        with RecordAttentionWidths() as attending:
            ids = torch.zeros((1, _TOKENS), dtype=torch.long, device="meta")
            twin(input_ids=ids, past_key_values=cache, use_cache=True)
    except Exception:  # code of every family, on a device that it was not written for
        return None
    return config, cache, attending.widths


def _read_layers(config: Any, cache: Any, widths: list[int]) -> tuple[LayerCacheEntry, ...]:
    attends = [not keeps_state_alone(layer) for layer in cache.layers]
    found = _share_out(widths, attends, [_count_entries(layer) > 2 for layer in cache.layers])
    return tuple(
        LayerCacheEntry(
            _count_entries(layer),
            _measure_reach(config, number, layer) if attends[number] else 0,
            _guess_width(config, number, layer) if found is None else found[number],
            _count_state(layer),
        )
        for number, layer in enumerate(cache.layers)
    )


def _share_out(widths: list[int], *candidates: list[bool]) -> list[int] | None:
    """Give the widths of attention, in their order, to the layers that attend, all equally often; None if none fit.

    Some attend twice a layer, and take the difference. Where an earlier export took attention out the cache counts two
    numbers a token, and nothing attends.
    """
    for attends in candidates:
        layers = sum(attends)
        if widths and layers and len(widths) % layers == 0:
            calls = len(widths) // layers
            each = iter([sum(widths[start : start + calls]) for start in range(0, len(widths), calls)])
            return [next(each) if here else 0 for here in attends]
    return None


def _count_entries(layer: Any) -> int:
    held = [getattr(layer, name, None) for name in _GROWING]
    return sum(each.numel() // each.shape[-2] for each in held if isinstance(each, Tensor) and each.dim() > 1)


def _count_state(layer: Any) -> int:
    """Bytes that a layer's cache keeps of a sequence of any length."""
    held = [dict(getattr(layer, name, {})).values() for name in _STATES]
    return sum(tensor.nbytes for tensors in held for tensor in tensors if isinstance(tensor, Tensor))


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


def read_cache(config: Any, number: int) -> LayerCacheEntry:
    """Return what a config's names say that a layer's cache keeps, for a cache that cannot be asked."""
    decoder = config.get_text_config(decoder=True)
    heads = _count_heads(config, number)
    width = _pick(decoder, number, "head_dim") or decoder.hidden_size // max(heads, 1)
    if getattr(decoder, "new_decoder_architecture", False):
        cached = heads  # Falcon's newer form repeats its few for every head
    elif getattr(decoder, "multi_query", False):
        cached = 1
    else:
        cached = _pick(decoder, number, "num_key_value_heads", "num_kv_heads") or heads
    return LayerCacheEntry(2 * cached * width, _find_reach(config, number), 2 * heads * width)


def _count_heads(config: Any, number: int) -> int:
    """Heads of a layer's attention, as a config names them: one number for all, or one for each; 0 if it has none."""
    return _pick(config.get_text_config(decoder=True), number, "num_attention_heads", "num_query_heads") or 0


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
