"""A matrix -> how the scores lie by which it got its zeros."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from explorer.deltas import Variant
from explorer.errors import ModifyError
from explorer.model import LoadedModel
from explorer.modifiers import repeat_layer
from explorer.progress import Progress, unreported
from explorer.sparsity.sparsity import Entries, Marks
from explorer.sparsity.watcher import LayerErrors, Watcher, watching_layers
from explorer.storage import Store
from explorer.text import Corpus

_BINS = 80


@dataclass(frozen=True)
class ScoreCounts:
    """How many entries of a matrix have which score.

    Args:
        ends: log10 of the scores between which entries are counted.
        kept, zeroed: entries between them that stay, and that become zero.
        nothing: entries whose score is 0.
        cut: the score below which as many entries lie as become zero; where rows or groups are judged by themselves
            each has its own.
    """

    ends: Float64[np.ndarray, " boundaries"]
    kept: Int64[np.ndarray, " groups"]
    zeroed: Int64[np.ndarray, " groups"]
    nothing: int
    cut: float


def count_scores(scores: Entries, zeros: Marks, bins: int = _BINS) -> ScoreCounts:
    """Count scores, none of which is negative, in bins that are equally wide in their logarithm."""
    flat, gone = scores.flatten().double().cpu().numpy(), zeros.flatten().cpu().numpy()
    known = flat > 0
    logs = np.log10(flat[known])
    low, high = (float(logs.min()), float(logs.max())) if len(logs) else (0.0, 0.0)
    ends = np.linspace(low, high, bins + 1)
    kept, zeroed = (np.histogram(logs[gone[known] == way], ends)[0] for way in (False, True))
    place = min(int(gone.sum()), len(flat) - 1)
    return ScoreCounts(ends, kept, zeroed, int((~known).sum()), float(np.partition(flat, place)[place]))


class _Found(Exception):
    """The layer that was looked for is done."""


class _ScoreTaker(Watcher):
    """Counts the scores of one matrix, and ends the work when its layer is done."""

    def __init__(self, layer: int, name: str) -> None:
        self.wanted = layer, name
        self.found: ScoreCounts | None = None

    def scores(self, layer: int, name: str, scores: Entries, zeros: Marks) -> None:
        if (layer, name) == self.wanted:
            self.found = count_scores(scores, zeros)

    def layer(self, layer: int, find_errors: Callable[[], LayerErrors]) -> None:
        if layer == self.wanted[0]:
            raise _Found


def find_scores(
    loaded: LoadedModel,
    corpus: Corpus,
    variant: Variant,
    layer: int,
    name: str,
    store: Store,
    progress: Progress = unreported,
) -> ScoreCounts:
    """Judge a matrix once more, as it was judged when the variant's last delta put zeros into it.

    The layers before it are taken as they were made.

    Args:
        loaded: the model.
        corpus: whose calibration windows it was judged on.
        variant: its last delta puts zeros into the matrix.
        layer, name: of the matrix.
        store: where what takes long is kept on its way.
        progress: told the layers.

    Raises ModifyError: it got no zeros; or see `modify`. Raises Cancelled: `progress` raised it.
    """
    taker = _ScoreTaker(layer, name)
    with watching_layers(taker), suppress(_Found):
        repeat_layer(loaded, corpus, variant, layer, store, progress)
    if taker.found is None:
        raise ModifyError("It was not judged", f"{name} of layer {layer}", "Name a matrix that got zeros")
    return taker.found
