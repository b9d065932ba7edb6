"""The layers of a model whose weights are in memory only while they are needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer.model.architecture import BESIDE
from explorer.model.layer_surgery import run_within
from explorer.model.weight_files import WeightFiles

#: Where a model has its stream.
_ATTRIBUTE = "layer_stream"

#: Puts a layer's weights from the files into its modules.
Fetch = Callable[[int], None]


class LayerStream:
    """Reads the weights of a layer when it is run, and lets them go afterwards.

    A layer's forward runs within `in_memory`, whoever calls it; who runs one layer many times asks with `kept` that
    it stays in between.

    Args:
        layers: the layers, with what is read later on the meta device.
        fetch: puts a layer's weights in.
        files: what it reads them from.
    """

    def __init__(self, layers: list[nn.Module], fetch: Fetch, files: WeightFiles) -> None:
        self._fetch, self.files = fetch, files
        self._away = [list(_list_away(layer)) for layer in layers]
        self._asked: Counter[int] = Counter()
        self._present: set[int] = set()
        for index, layer in enumerate(layers):
            for module in (layer, *_list_beside(layer)):
                run_within(module, partial(self.in_memory, index))

    @property
    def largest(self) -> int:
        """Bytes of the largest layer in memory."""
        return max(sum(tensor.nbytes for _, _, tensor in away) for away in self._away)

    @contextmanager
    def kept(self, layer: int) -> Iterator[None]:
        """Keep a layer's weights to the end of the block, once something has needed them."""
        self._asked[layer] += 1
        try:
            yield
        finally:
            self._asked[layer] -= 1
            if not self._asked[layer]:
                self._let_go(layer)

    @contextmanager
    def in_memory(self, layer: int) -> Iterator[None]:
        """Have a layer's weights in memory in the block."""
        with self.kept(layer):
            if layer not in self._present:
                self._present.add(layer)
                with torch.inference_mode(False), torch.no_grad():
                    self._fetch(layer)
            yield

    def _let_go(self, layer: int) -> None:
        self._present.discard(layer)
        for owner, name, tensor in self._away[layer]:
            setattr(owner, name, tensor)


def _list_away(layer: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Yield the parameters and buffers in a layer that are on the meta device: whose they are, their name, and they."""
    for module in layer.modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if tensor.is_meta:
                yield module, name, tensor


def _list_beside(layer: nn.Module) -> Iterator[nn.Module]:
    """Yield what an earlier export put beside a layer: it runs before or after the layer's own forward."""
    for name in BESIDE:
        yield from getattr(layer, name, ())


def attach_stream(model: Any, stream: LayerStream) -> None:
    """Note the stream that a model's layers come from."""
    setattr(model, _ATTRIBUTE, stream)


def find_stream(model: Any) -> LayerStream | None:
    """Return the stream that a model's layers come from; None if they are in memory."""
    return getattr(model, _ATTRIBUTE, None)
