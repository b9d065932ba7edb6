"""Measure: a way to say how much a layer or site matters, and its function; MeasureSetting: of what it is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from explorer.deltas import Variant
from explorer.masks import NONE, PARTS, Mask
from explorer.measures.importance import Importance, Redundant
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store, make_key
from explorer.text import Corpus

UNITS = ("layer", *PARTS)

#: What a measure reads of the model.
Need = Literal["hidden states", "logits", "weights", "gradients", "attention weights"]

#: What a measure takes: no text at all, all windows once, forward and back once, or once for every mask it tries.
Cost = Literal["no pass", "one pass", "two passes", "a pass a mask"]


@dataclass(frozen=True)
class MeasureSetting:
    """The variant and text that measures are taken of, and the options that they have.

    Args:
        loaded: the model.
        corpus: the text.
        store: where what is measured is kept.
        progress: told how far it is.
        units: which of `layer`, `attention` and `mlp` are wanted; a measure may give the others as well.
        permutations: drawn for Shapley values.
        seed: of coalitions and permutations.
        variant: what is off and changed already.
    """

    loaded: LoadedModel
    corpus: Corpus
    store: Store
    progress: Progress = unreported
    units: Sequence[str] = UNITS
    permutations: int = 4
    seed: int = 0
    variant: Mask | Variant = NONE

    def stored(
        self, name: str, compute: Callable[[int], list[Importance]], redundant: Redundant = "low"
    ) -> list[Importance]:
        """Return a measure of every unit from the store; computed in batches of one size, and kept, if not there."""

        def work(size: int) -> dict[str, Float64[np.ndarray, " *any"]]:
            parts = {"variant": self.variant.key} if self.variant else {}
            key = make_key(name, context=self.loaded.numerics_key(size), corpus=self.corpus.digest, **parts)
            arrays = self.store.arrays(key)
            if arrays is None:
                made = compute(size)
                arrays = {f"{i.unit} values": i.values for i in made}
                arrays |= {f"{i.unit} samples": i.samples for i in made if i.samples is not None}
                self.store.add_arrays(key, arrays)
            return arrays

        arrays = self.loaded.batch_shape.run(work, self.corpus.window)
        return [
            Importance(name, unit, arrays[f"{unit} values"], arrays[f"{unit} samples"], redundant) for unit in UNITS
        ]


@dataclass(frozen=True)
class Measure:
    """A way to say how much a layer or site matters.

    Args:
        name: in `MEASURES`.
        label: its name on a figure.
        kind: what has to be done for it.
        source: where it is defined.
        formula: what it is, in LaTeX between dollar signs, and what the symbols are.
        function: takes it. Measures that come from one pass share one function, which gives all of them.
        needs: what it reads of the model.
        cost: what it takes.
        units: what it can be taken of.
        redundant: whether what can go has a `low` or a `high` value; None for what only explains.
        unit_of: what the number is in; empty for a ratio.
        options: the options of `MeasureSetting` that it has.
    """

    name: str
    label: str
    kind: str
    source: str
    formula: str
    function: Callable[[MeasureSetting], list[Importance]]
    needs: Need
    cost: Cost
    units: tuple[str, ...] = UNITS
    redundant: Redundant | None = "low"
    unit_of: str = ""
    options: tuple[str, ...] = ()

    @property
    def soon_taken(self) -> bool:
        """Whether all windows go through the model once at the most."""
        return self.cost in ("no pass", "one pass")

    @property
    def of_variants(self) -> bool:
        """Whether it can be taken of a variant: of what it computes, not of how its weights lie."""
        return self.needs in ("hidden states", "logits")
