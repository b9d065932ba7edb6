"""LoadedModel, Corpus, names -> [Importance]: every published one-shot measure, on the calibration windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from explorer.deltas import Variant
from explorer.errors import PlanError
from explorer.masks import NONE, Mask, find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.catalogue import MEASURES
from explorer.measures.importance import Importance
from explorer.measures.interactions import Interactions, interact
from explorer.measures.measure_type import UNITS, MeasureSetting
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus


def measure_importance(
    loaded: LoadedModel,
    corpus: Corpus,
    names: Iterable[str],
    store: Store,
    progress: Progress = unreported,
    *,
    units: Sequence[str] = UNITS,
    permutations: int = 4,
    seed: int = 0,
    variant: Mask | Variant = NONE,
) -> list[Importance]:
    """Measure what the names in `MEASURES` ask for, of layers, attention and MLPs where they apply.

    Measures that share a function come from one pass; what is stored is not computed again. Of a variant it is what
    would be measured of the checkpoint that holds it, and what is off has NaN.

    Args:
        units: which of `layer`, `attention` and `mlp`.
        permutations: drawn for Shapley values.
        seed: of coalitions and permutations.
        variant: what is off and changed already.

    Raises:
        PlanError: a name that `MEASURES` lacks, or a measure that cannot be taken of a variant.
        MaskError: the variant names a layer that the model lacks.
        UnsupportedModel: gradients of quantized weights, or attention that does not give its weights.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; scores that were finished stay stored.
    """
    asked = list(dict.fromkeys(names))
    check_measures(asked, variant.checked(loaded.n_layers))
    setting = MeasureSetting(loaded, corpus, store, progress, units, permutations, seed, variant)
    functions = dict.fromkeys(MEASURES[name].function for name in asked)
    found = [each for function in functions for each in function(setting)]
    chosen = [each for name in asked for each in found if each.measure == name and each.unit in units]
    return [_blank(each, variant.mask) for each in chosen] if variant.mask else chosen


def _blank(found: Importance, mask: Mask) -> Importance:
    """Put NaN in the place of what is off."""
    off = [unit <= mask for unit in find_units(len(found.values), found.unit)]
    samples = None if found.samples is None else np.where(off, np.nan, found.samples)
    return replace(found, values=np.where(off, np.nan, found.values), samples=samples)


def check_measures(names: Iterable[str], variant: Mask | Variant = NONE) -> None:
    """Raise PlanError at a name that `MEASURES` lacks, or that cannot be taken of a variant."""
    for name in names:
        if name not in MEASURES:
            raise PlanError("Unknown measure", repr(name), "Use one of " + ", ".join(MEASURES))
        if variant and not MEASURES[name].of_variants:
            can = ", ".join(each for each in MEASURES if MEASURES[each].of_variants)
            raise PlanError("Cannot be measured of a variant", f"{name} of {variant}", f"Export it first, or use {can}")


def measure_interactions(
    loaded: LoadedModel,
    corpus: Corpus,
    unit: str,
    store: Store,
    progress: Progress = unreported,
    listener: Callable[[Interactions], None] = lambda found: None,
    variant: Mask | Variant = NONE,
) -> Interactions:
    """Score all pairs of layers or sites on the calibration windows: what two removals cost beyond what each costs.

    Args:
        unit: what is removed: see `find_units`.
        listener: told the map as it fills.
        variant: what is off and changed already; units that are off are left out.

    Raises:
        DeviceError: out of memory with a single window.
        Cancelled: `progress` or the listener raised it; what was scored stays stored.
    """
    losses = make_loss_function(loaded, corpus, store, base=variant.checked(loaded.n_layers))
    units = [each for each in find_units(loaded.n_layers, unit) if not each <= variant.mask]
    return interact(units, losses, len(corpus.calibration), corpus.window - 1, listener, progress)
