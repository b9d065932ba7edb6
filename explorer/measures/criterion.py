"""Criterion: what a search lowers, with the function that gives it for masks on windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from explorer.deltas import Variant
from explorer.evaluation import HiddenStateCache
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus

#: Losses of variants on a slice of the calibration windows.
VariantLosses = Callable[[Sequence[Mask | Variant], slice], Float64[np.ndarray, "masks windows"]]


@dataclass(frozen=True)
class LossRequest:
    """What the losses of a criterion are wanted of.

    Args:
        loaded: the model.
        corpus: whose calibration windows.
        masks: in their order.
        store: where losses are kept; what it has is not computed again.
        progress: told the windows.
        rows: which of the windows.
        state_cache: for what one request leaves to the next.
    """

    loaded: LoadedModel
    corpus: Corpus
    masks: Sequence[Mask | Variant]
    store: Store
    progress: Progress = unreported
    rows: slice = field(default_factory=lambda: slice(None))
    state_cache: HiddenStateCache | None = None


#: Gives the losses of masks on windows, infinite where the arithmetic overflowed.
WindowLosses = Callable[[LossRequest], Float64[np.ndarray, "masks windows"]]


@dataclass(frozen=True)
class Criterion:
    """What a search lowers.

    Args:
        name: in `CRITERIA`.
        label: its name in a list.
        unit_of: what the loss of a window is in.
        source: where it is defined.
        function: gives it; summed over windows it is what the search lowers.
    """

    name: str
    label: str
    unit_of: str
    source: str
    function: WindowLosses
