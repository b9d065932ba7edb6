"""Criterion: what a search lowers, with the function that gives it for masks on windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from explorer.deltas import Variant
from explorer.evaluation import HiddenStateCache
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.progress import Progress
from explorer.storage import Store
from explorer.text import Corpus

#: Losses of variants on a slice of the calibration windows.
VariantLosses = Callable[[Sequence[Mask | Variant], slice], Float64[np.ndarray, "masks windows"]]


class WindowLosses(Protocol):
    """Gives the losses of masks on a slice of the calibration windows."""

    def __call__(
        self,
        loaded: LoadedModel,
        corpus: Corpus,
        masks: list[Mask | Variant],
        store: Store,
        progress: Progress,
        rows: slice,
        state_cache: HiddenStateCache,
    ) -> Float64[np.ndarray, "masks windows"]:
        """Return losses, infinite where the arithmetic overflowed. What is stored comes at once.

        The cache is for what one call leaves to the next.
        """


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
