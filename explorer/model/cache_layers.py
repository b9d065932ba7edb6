"""A cache of transformers, a mask -> the same without layers for attention that is off, its length kept right."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from explorer.masks import Mask


def find_state(forward: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    """Return the `state` that a recurrent layer or mixer is called with, which it hands on where it is off; or None."""
    if "state" in kwargs or len(args) < 2:
        return kwargs.get("state")
    names = list(inspect.signature(forward).parameters)
    return args[names.index("state")] if "state" in names[: len(args)] else None


class TokenCount(CacheLayerMixin):
    """A layer of a cache that holds nothing of its tokens but how many they are."""

    is_croppable = True

    def __init__(self) -> None:
        super().__init__()
        self.cumulative_length = 0

    def get_seq_length(self) -> int:
        """Return how many there are."""
        return self.cumulative_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length, with so many more, and the offset of a mask."""
        return self.cumulative_length + query_length, 0

    def get_max_length(self) -> int:
        """Return -1: there is no limit."""
        return -1

    def crop(self, tokens_to_remove: int) -> None:
        """Take tokens, a negative number of them, off the end."""
        self.cumulative_length += tokens_to_remove

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Refuse keys and values."""
        raise NotImplementedError("The attention of this layer was off when the cache was begun")

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Refuse keys and values."""
        self.lazy_initialization(key_states, value_states)

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Do nothing: all rows are equally long."""

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Do nothing: all rows are equally long."""

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Do nothing: all rows are equally long."""


class Nothing(DummyLayer):
    """Holds the place of a layer in a cache; of no type, for models that ask."""

    _layer_type = None


class MlpState(LinearAttentionLayer):
    """What the convolution of an MLP keeps in the place that a layer's attention, which is off, shared with it."""


def leave_out(mask: Mask, n_layers: int, values: Iterable[Any]) -> list[Cache]:
    """Have the caches among what a decoder is given or gives hold nothing for attention that is off; return them.

    Every layer keeps its index. With all attention off one layer stays, to be asked for the length, and with all off
    that keeps a state one of those. What a convolution of the MLP keeps beside attention stays too.
    """
    if not mask.sites:
        return []
    caches = [getattr(each, "self_attention_cache", each) for each in values if isinstance(each, Cache)]
    for cache in caches:
        made = cache.layer_class_to_replicate  # of a cache whose layers are made when they are needed
        while made and len(cache.layers) < n_layers:
            cache.layers.append(made())
        kinds = {
            number: keeps_state_alone(layer)
            for number, layer in enumerate(cache.layers)
            if not isinstance(layer, (DummyLayer, TokenCount, MlpState))
        }
        off = [number for number in kinds if mask.off(number)[0]]
        on = {kinds[number] for number in kinds.keys() - off}
        last = {kind: number for number, kind in kinds.items()}
        for number in off:
            layer, stays = cache.layers[number], kinds[number] not in on and last[kinds[number]] == number
            if not isinstance(layer, LinearAttentionCacheLayerMixin):
                cache.layers[number] = TokenCount() if stays or made else Nothing()
            elif not stays:
                both = not kinds[number] and not mask.off(number)[1]
                cache.layers[number] = MlpState(layer.number_of_states) if both else Nothing()
    return caches


def count_tokens(caches: Iterable[Cache], tokens: int) -> None:
    """Note in caches, each counted once, that they have seen so many tokens more."""
    for cache in {id(each): each for each in caches}.values():
        for layer in cache.layers:
            if isinstance(layer, TokenCount):
                layer.cumulative_length += tokens


def keeps_state_alone(layer: Any) -> bool:
    """Tell whether a layer of transformers' cache holds a state in place of tokens, not beside them."""
    return isinstance(layer, LinearAttentionCacheLayerMixin) and not isinstance(layer, DynamicLayer)
