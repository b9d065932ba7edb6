"""Windows cut into batches of one shape, and what the model passes to its layers for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.model.batch_shape import pad_batch, slice_rows
from explorer.model.forward_policies import Hidden, Ids, LayerCall
from explorer.model.states import MOST_BYTES, States, StatesBudget
from explorer.model.wrappers import ModelWrappers


class BatchedWindows:
    """Windows that go through a model one layer at a time.

    Of a streamed model's states no more are in memory than one of its layers takes.

    Args:
        wrappers: of the model.
        ids: the windows.
        rows: windows in a batch.
        folder: where states lie that are too many for memory.
    """

    def __init__(
        self, wrappers: ModelWrappers, ids: Int[np.ndarray, "windows window"], rows: int, folder: Path | None = None
    ) -> None:
        self.wrappers, self.ids, self.rows, self.folder = wrappers, ids, rows, folder
        stream = wrappers.stream
        self._budget = None if stream is None else StatesBudget(min(MOST_BYTES, stream.largest))
        self._calls: list[list[LayerCall]] = []

    def fit_rows(self, window: int) -> int:
        """Return how many windows of another length go through at once: of no more ids, and no more windows."""
        return max(1, min(self.rows, self.rows * self.ids.shape[1] // window))

    def embed(self) -> States:
        """Return the input of layer 0."""
        states: States | None = None
        self._calls = []
        for rows, ids in self.batches():
            made = self.wrappers.layer_inputs(ids)
            hidden = made.hidden[: rows.stop - rows.start]
            states = states or States((len(self.ids), *hidden.shape[1:]), hidden.dtype, self.folder, self._budget)
            states[rows] = hidden
            self._calls.append(made.calls)
        assert states is not None
        return states

    def batches(self) -> Iterator[tuple[slice, Ids]]:
        """Yield each batch: which windows, and the ids, filled up."""
        for rows in slice_rows(len(self.ids), self.rows):
            yield rows, pad_batch(self.ids[rows], self.rows, self.wrappers.device)

    def calls(self, layer: int) -> Iterator[tuple[slice, LayerCall]]:
        """Yield what the model passes to a layer for each batch; `embed` was called before."""
        for rows, calls in zip(slice_rows(len(self.ids), self.rows), self._calls, strict=True):
            yield rows, calls[layer]

    def fill(self, hidden: Float[Tensor, "windows window width"]) -> Hidden:
        """Return the states of a batch on the model's device, in memory of its own, filled up with the last window."""
        here = hidden.to(self.wrappers.device)
        return torch.cat([here, here[-1:].expand(self.rows - len(here), -1, -1)])
