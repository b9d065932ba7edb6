"""All windows of a text through a model one layer at a time, each layer's modules watched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.deltas import Variant
from explorer.masks import NONE, Mask, Site
from explorer.model.batched_windows import BatchedWindows
from explorer.model.forward_policies import Hidden, Observer
from explorer.model.layer_surgery import AllGiven, Watch
from explorer.model.loading import LoadedModel
from explorer.model.states import States


@dataclass(frozen=True)
class Given:
    """What modules of a layer were given of one batch of windows; what fills the batch up is cut off.

    Args:
        rows: which windows.
        given: the first argument of each module that was watched, by name.
        chosen: the experts that a watched module that has some sends each token to, by name.
    """

    rows: slice
    given: dict[str, Float[Tensor, "batch window _"]]
    chosen: dict[str, Int[Tensor, "batch window _"]]


@dataclass(frozen=True)
class Seen(Given):
    """What one batch of windows did in a layer.

    Args:
        before, after: the layer's input and output, the residual stream of each.
        packed: its output with all that it hands on, for the next layer; see `Packing`.
        gave: the output of each module that was watched, by name.
        updates: what attention and MLP added to the residual stream, where that was asked for.
    """

    before: Hidden
    after: Hidden
    packed: Float[Tensor, "batch window _"]
    gave: dict[str, Float[Tensor, "batch window _"]]
    updates: dict[str, Hidden]


class _Updates:
    """Keeps what the sites of one layer add."""

    def __init__(self) -> None:
        self.found: dict[str, Hidden] = {}

    def enter(self, layer: int, hidden: Hidden) -> None:
        pass

    def update(self, site: Site, update: Hidden) -> None:
        self.found[site.part] = update.clone()  # some layers add in place

    def leave(self, layer: int, hidden: Hidden) -> None:
        pass


class LayerwisePass(BatchedWindows):
    """Takes all windows through one layer of a variant before any goes into the next.

    Args:
        loaded: the model.
        ids: the windows.
        rows: windows in a batch.
        folder: where states lie that are too many for memory.
    """

    def __init__(
        self, loaded: LoadedModel, ids: Int[np.ndarray, "windows window"], rows: int, folder: Path | None = None
    ) -> None:
        super().__init__(loaded.wrappers, ids, rows, folder)
        self.loaded = loaded
        self.layers_run = 0.0

    @property
    def forwards(self) -> float:
        """How many whole forward passes of all windows the layers run until now are."""
        return self.layers_run / self.loaded.n_layers

    def one_by_one(self) -> LayerwisePass:
        """Return a pass of the same windows, one at a time and in the order of their ids, whatever this one's is."""
        return LayerwisePass(self.loaded, self.ids[np.lexsort(self.ids.T[::-1])], 1, self.folder)

    def _runs(self, layer: int, variant: Mask | Variant) -> bool:
        """Tell whether a layer is run in a variant."""
        return layer not in variant.mask.whole_layers or layer in (self.loaded.architecture.hands_on or ())

    def run(
        self,
        layer: int,
        states: States,
        variant: Mask | Variant = NONE,
        into: States | None = None,
    ) -> States:
        """Run one layer and return its output.

        Args:
            layer: which one; `embed` was called before.
            states: its input.
            variant: what is off, and changed.
            into: where the output goes; `states` itself, if that is not wanted any more.
        """
        output = states.like() if into is None else into
        for seen in self.look(layer, states, variant):
            output[seen.rows] = seen.packed
        return output

    @torch.inference_mode()
    def look(
        self,
        layer: int,
        states: States,
        variant: Mask | Variant = NONE,
        modules: tuple[str, ...] = (),
        updates: bool = False,
    ) -> Iterator[Seen]:
        """Run one layer and yield what each batch did.

        Args:
            layer: which one; `embed` was called before.
            states: its input.
            variant: what is off, and changed.
            modules: names of modules in the layer that are watched.
            updates: whether what the sites add is wanted.
        """
        self.layers_run += self._runs(layer, variant)
        with self.wrappers.kept(layer):
            for rows, call in self.calls(layer):
                before, real = states[rows].to(self.loaded.device), rows.stop - rows.start
                watch, added = Watch(modules), _Updates() if updates else None
                with self.wrappers.observe(added, variant, watch):
                    after = self.wrappers.run_layer(layer, self.fill(before), call)[:real]
                given, chosen, gave, found = (
                    self._cut(tensors, real)
                    for tensors in (watch.given, watch.chosen, watch.gave, added.found if added else {})
                )
                stream = self.wrappers.packing.stream
                yield Seen(rows, given, chosen, stream(before), stream(after), after, gave, found)

    @torch.inference_mode()
    def find_inputs(
        self, layer: int, states: States, variant: Mask | Variant, modules: tuple[str, ...]
    ) -> Iterator[Given]:
        """Run one layer until its modules have been given their inputs, and yield those of each batch.

        Args:
            layer: which one; `embed` was called before.
            states: its input.
            variant: what is off, and changed.
            modules: names of modules in the layer.
        """
        self.layers_run += self._runs(layer, variant)
        with self.wrappers.kept(layer):
            for rows, call in self.calls(layer):
                watch = Watch(modules, inputs_only=True)
                with suppress(AllGiven), self.wrappers.observe(None, variant, watch):
                    self.wrappers.run_layer(layer, self.fill(states[rows].to(self.loaded.device)), call)
                real = rows.stop - rows.start
                yield Given(rows, self._cut(watch.given, real), self._cut(watch.chosen, real))

    def _cut(self, tensors: dict[str, Tensor], real: int) -> dict[str, Tensor]:
        """Return tensors of a batch of windows without what filled it up."""
        return {name: tensor.view(self.rows, -1, tensor.shape[-1])[:real] for name, tensor in tensors.items()}

    @torch.inference_mode()
    def show(
        self, layer: int, states: States, observers: Iterable[Observer], variant: Mask | Variant, into: States
    ) -> Iterator[None]:
        """Run one layer, show each batch to an observer of its own, filled up, and stop after each.

        Args:
            layer: which one; `embed` was called before.
            states: its input.
            observers: one a batch.
            variant: what is off, and changed.
            into: where the output goes.
        """
        self.layers_run += self._runs(layer, variant)
        with self.wrappers.kept(layer):
            for (rows, call), observer in zip(self.calls(layer), observers, strict=True):
                with self.wrappers.observe(observer, variant):
                    after = self.wrappers.run_layer(layer, self.fill(states[rows]), call)
                into[rows] = after[: rows.stop - rows.start]
                yield
