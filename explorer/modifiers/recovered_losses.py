"""Losses of variants -> losses of masks with what makes up for them: what a search sees that knows of recovery."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from explorer.deltas import ModifierSpec, Variant
from explorer.errors import ModifyError
from explorer.masks import Mask
from explorer.measures import VariantLosses
from explorer.model import LoadedModel
from explorer.modifiers.delta_maker import DeltaMaker
from explorer.progress import Progress
from explorer.storage import Store
from explorer.text import Corpus

_HELD = 256  # variants, for the next windows of a race


class RecoveredLosses:
    """Fits a modifier to each mask that is asked for, on all calibration windows, and gives the variant's losses.

    A mask for which the modifier does not apply is judged as it is. The deltas are held, some of them, and not stored:
    a search makes hundreds. It has been fitted on the windows that it is judged by, as every candidate has.

    Args:
        loaded: the model.
        corpus: whose calibration windows are fitted to.
        spec: the modifier.
        losses: of variants.
        progress: told the layers.
    """

    def __init__(
        self, loaded: LoadedModel, corpus: Corpus, spec: ModifierSpec, losses: VariantLosses, progress: Progress
    ) -> None:
        self.loaded, self.corpus, self.spec, self.losses = loaded, corpus, spec, losses
        self.progress = progress
        self._made: OrderedDict[Mask, Mask | Variant] = OrderedDict()
        self._maker: DeltaMaker | None = None

    def __call__(self, masks: Sequence[Mask], rows: slice) -> Float64[np.ndarray, "masks windows"]:
        """Return the losses of masks with what makes up for them on some windows."""
        return self.losses([self._find(mask) for mask in masks], rows)

    def _find(self, mask: Mask) -> Mask | Variant:
        if mask not in self._made:
            self._made[mask] = self._make(mask) if mask else mask
            while len(self._made) > _HELD:
                self._made.popitem(last=False)
        self._made.move_to_end(mask)
        return self._made[mask]

    def _make(self, mask: Mask) -> Mask | Variant:
        def work(rows: int) -> Mask | Variant:
            if self._maker is None or self._maker.rows != rows:
                self._maker = DeltaMaker(self.loaded, self.corpus, Store(None), self.progress, rows)
            return self._maker.fit(Variant(mask), self.spec)

        try:
            return self.loaded.batch_shape.run(work, self.corpus.window)
        except ModifyError:
            return mask
