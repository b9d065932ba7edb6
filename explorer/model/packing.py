"""What leaves a layer -> one tensor of (windows, window, width), and back: the residual stream, and what is handed on.

Most layers hand the residual stream on and nothing else. Some have several streams before the windows; some put keys
and values, for later layers to read, into a mapping that the model passes to all. Whoever runs layers one by one keeps
one tensor a variant, so both go into it: a layer is then a function of that tensor, whatever ran before.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_Any = Float[Tensor, "..."]
_Packed = Float[Tensor, "batch window _"]


@dataclass(frozen=True)
class Entry:
    """What a layer puts into a mapping that it shares with later ones.

    Args:
        writer: the layer, the last one of those that put something under this key.
        argument: the name under which the mapping is passed to layers.
        key: the key in it.
        inner: of each tensor of (windows, *inner, window, width) its `inner` and its width.
    """

    writer: int
    argument: str
    key: Any
    inner: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """Numbers of a token."""
        return sum(torch.Size(each).numel() for each in self.inner)


@dataclass
class Packing:
    """How what leaves a layer is packed.

    Args:
        streams: residual streams that lie before the windows; 0 where there is one.
        entries: what layers hand on beside the residual stream, in the order in which it is put there.
    """

    streams: int = 0
    entries: tuple[Entry, ...] = ()
    _mappings: dict[str, Callable[[], MutableMapping[Any, Any]]] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Tell whether nothing is packed: the residual stream is all, with the windows first."""
        return not self.streams and not self.entries

    def learn_streams(self, hidden: _Any, batch: int, window: int) -> None:
        """Learn from the input of the first layer, in a pass of so many windows, where these are."""
        if hidden.dim() == 4 and hidden.shape[:2] != (batch, window) and hidden.shape[1:3] == (batch, window):
            self.streams = len(hidden)

    def learn_entries(self, layer: int, before: dict[tuple[str, Any], int], kwargs: dict, window: int) -> None:
        """Learn what a layer put into mappings; see `list_shared` for what was there before."""
        for (argument, key), number in list_shared(kwargs).items():
            tensors = kwargs[argument][key]
            if before.get((argument, key)) == number or not isinstance(tensors, tuple):
                continue
            if all(isinstance(each, Tensor) and each.dim() > 2 and each.shape[-2] == window for each in tensors):
                inner = tuple((*each.shape[1:-2], each.shape[-1]) for each in tensors)
                others = tuple(each for each in self.entries if (each.argument, each.key) != (argument, key))
                self.entries = (*others, Entry(layer, argument, key, inner))
                self._mappings[argument] = type(kwargs[argument])

    def keep(self, writers: tuple[int, ...] | None) -> None:
        """Forget what other layers hand on than these; nothing, where it is not known which are read."""
        self.entries = tuple(each for each in self.entries if writers is None or each.writer in writers)

    def without(self, packed: _Packed, entry: Entry) -> _Packed:
        """Return what left a layer as if nothing had been handed on under an entry's key."""
        place = self.entries.index(entry)
        stop = packed.shape[-1] - sum(each.width for each in self.entries[place + 1 :])
        changed = packed.clone()
        changed[..., stop - entry.width : stop] = 0
        return changed

    def windows_first(self, hidden: _Any) -> _Any:
        """Return hidden states of a layer with the windows first."""
        return hidden.movedim(0, 2) if self.streams else hidden

    def flatten(self, hidden: _Any) -> _Packed:
        """Return the residual stream of hidden states of a layer, several streams side by side."""
        return self.windows_first(hidden).flatten(2)

    def unflatten(self, stream: _Packed, like: _Any) -> _Any:
        """Return a residual stream as hidden states of a layer are."""
        shape = self.windows_first(like).shape
        return stream.view(shape).movedim(2, 0) if self.streams else stream.view(shape)

    def pack(self, hidden: _Any) -> _Any:
        """Return the input of the first layer, packed: nothing has been handed on."""
        if self.is_plain:
            return hidden
        flat = self.flatten(hidden)
        return torch.cat([flat, flat.new_zeros(*flat.shape[:2], sum(each.width for each in self.entries))], -1)

    def stream(self, packed: _Any) -> _Any:
        """Return the residual stream alone, several streams side by side."""
        width = sum(each.width for each in self.entries)
        return packed[..., : packed.shape[-1] - width] if width else packed

    def hidden(self, packed: _Any) -> _Any:
        """Return hidden states as a layer takes them."""
        stream = self.stream(packed)
        if not self.streams:
            return stream
        return stream.unflatten(-1, (self.streams, -1)).movedim(2, 0).contiguous()

    def run(self, forward: Callable[..., Any], packed: _Any, args: tuple, kwargs: dict) -> _Any:
        """Run a layer's forward, given what the model passes beside the hidden states; return its output, packed."""
        if self.is_plain:
            output = forward(packed, *args, **kwargs)
            return output[0] if isinstance(output, (tuple, list)) else output
        shared = self._open(packed)
        output = forward(self.hidden(packed), *args, **kwargs | shared)
        stream = self.flatten(output[0] if isinstance(output, (tuple, list)) else output)
        return torch.cat([stream, *self._close(shared)], -1)

    def _open(self, packed: _Packed) -> dict[str, MutableMapping[Any, Any]]:
        """Return the mappings as the layers before have left them."""
        mappings = {argument: make() for argument, make in self._mappings.items()}
        start = self.stream(packed).shape[-1]
        for entry in self.entries:
            tensors = []
            for inner in entry.inner:
                stop = start + torch.Size(inner).numel()
                tensors.append(packed[..., start:stop].unflatten(-1, inner).movedim(1, -2).contiguous())
                start = stop
            mappings[entry.argument][entry.key] = tuple(tensors)
        return mappings

    def _close(self, mappings: dict[str, MutableMapping[Any, Any]]) -> list[_Packed]:
        """Return what is in the mappings."""
        tensors = (each for entry in self.entries for each in mappings[entry.argument][entry.key])
        return [each.movedim(-2, 1).flatten(2) for each in tensors]


def list_shared(kwargs: dict) -> dict[tuple[str, Any], int]:
    """List what is in the mappings that a layer is passed: argument and key -> which object that is."""
    shared = {name: each for name, each in kwargs.items() if isinstance(each, MutableMapping)}
    return {(name, key): id(value) for name, each in shared.items() for key, value in each.items()}
