"""Windows, [Variant] -> the last layer's output of each, layer by layer: for a model that is read while it runs.

The tree of variants is that of `prefix_tree`, taken level by level: everything that goes through a layer does so before
the next layer is read. Of each distinct prefix the states of all windows are kept; see `States` for where.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, Int64

from explorer.deltas import Variant
from explorer.evaluation.prefix_tree import fork, run_prefix_tree
from explorer.masks import Mask
from explorer.model import BatchedWindows, Hidden, Ids, ModelWrappers, States
from explorer.progress import Progress, unreported

#: The share of the free disk that states may take; variants beyond it wait for another reading of the weights.
_SHARE = 0.5


@dataclass
class Branch:
    """Variants that have been alike so far.

    Args:
        variants: which.
        states: of all windows, at the depth that was reached.
        broken: for each window the first layer whose output was not finite; L if there was none.
    """

    variants: list[Mask | Variant]
    states: States
    broken: Int64[np.ndarray, " windows"]


@torch.inference_mode()
def run_breadth_first(
    windows: BatchedWindows, variants: Sequence[Mask | Variant], progress: Progress = unreported
) -> Iterator[list[Branch]]:
    """Yield variants that have one head with their last layer's output, as many together as the disk has room for.

    Args:
        windows: what goes through the model.
        variants: what is off, and changed.
        progress: told the layers.
    """
    layers = len(windows.wrappers.layers)
    free = shutil.disk_usage(windows.folder or tempfile.gettempdir()).free
    together = max(1, int(_SHARE * free / windows.embed().nbytes) - 1)
    parts = [list(variants[start : start + together]) for start in range(0, len(variants), together)]
    for number, part in enumerate(parts):
        level = [Branch(part, windows.embed(), np.full(len(windows.ids), layers))]
        for layer in range(layers):
            progress(number * layers + layer, len(parts) * layers, "Running the model layer by layer")
            with windows.wrappers.kept(layer):
                level = [branch for each in _drain(level) for branch in _run(windows, layer, each)]
        yield [replace(each, variants=alike) for each in level for alike in fork(each.variants, layers)]
        level.clear()


def _drain(level: list[Branch]) -> Iterator[Branch]:
    """Yield branches, each gone from the list when it is wanted."""
    while level:
        yield level.pop()


def _run(windows: BatchedWindows, layer: int, branch: Branch) -> Iterator[Branch]:
    """Take a branch through a layer; it parts where variants differ there, and its states go to the last part."""
    parts = fork(branch.variants, layer)
    for number, part in enumerate(parts, 1):
        into = branch.states if number == len(parts) else branch.states.like()
        after = Branch(part, into, branch.broken.copy())
        for rows, call in windows.calls(layer):
            with windows.wrappers.as_variant(part[0]):
                hidden = windows.wrappers.run_layer(layer, windows.fill(branch.states[rows]), call)
            hidden = hidden[: rows.stop - rows.start]
            sound = hidden.flatten(1).isfinite().all(1).cpu().numpy()
            after.broken[rows] = np.where(sound, after.broken[rows], np.minimum(after.broken[rows], layer))
            into[rows] = hidden
        yield after


@torch.inference_mode()
def run_batches(
    wrappers: ModelWrappers,
    ids: Int[np.ndarray, "windows window"],
    size: int,
    variant: Mask | Variant,
    folder: Path | None = None,
) -> Iterator[tuple[Ids, Hidden]]:
    """Yield batches of windows, filled up, with the last layer's output; each layer of a streamed model is read once.

    Args:
        wrappers: of the model.
        ids: the windows.
        size: windows in a batch.
        variant: what is off, and changed.
        folder: where states lie that are too many for memory.
    """
    windows = BatchedWindows(wrappers, ids, size, folder)
    if wrappers.stream is None:
        for _, batch in windows.batches():
            ((_, hidden),) = run_prefix_tree(wrappers, wrappers.layer_inputs(batch), [variant], None)
            yield batch, hidden
        return
    for (branch,) in run_breadth_first(windows, [variant]):
        for rows, batch in windows.batches():
            yield batch, windows.fill(branch.states[rows])
