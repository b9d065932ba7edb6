"""LoadedModel, Corpus, names -> [Importance]: every published one-shot measure, on the calibration windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from explorer.errors import PlanError
from explorer.masks import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.catalogue import MEASURES
from explorer.measures.importance import Importance
from explorer.measures.interactions import Interactions, interact
from explorer.measures.measure_type import UNITS, Setting
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
) -> list[Importance]:
    """Measure what the names in `MEASURES` ask for, of layers, attention and MLPs where they apply.

    Measures that share a function come from one pass; what is stored is not computed again.

    Args:
        units: which of `layer`, `attention` and `mlp`.
        permutations: drawn for Shapley values.
        seed: of coalitions and permutations.

    Raises:
        PlanError: a name that `MEASURES` lacks.
        UnsupportedModel: gradients of quantized weights, or attention that does not give its weights.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; scores that were finished stay stored.
    """
    asked = list(dict.fromkeys(names))
    check_measures(asked)
    setting = Setting(loaded, corpus, store, progress, units, permutations, seed)
    functions = dict.fromkeys(MEASURES[name].function for name in asked)
    found = [each for function in functions for each in function(setting)]
    return [each for name in asked for each in found if each.measure == name and each.unit in units]


def check_measures(names: Iterable[str]) -> None:
    """Raise PlanError at a name that `MEASURES` lacks."""
    if unknown := [name for name in names if name not in MEASURES]:
        raise PlanError("Unknown measure", repr(unknown[0]), "Use one of " + ", ".join(MEASURES))


def measure_interactions(
    loaded: LoadedModel,
    corpus: Corpus,
    unit: str,
    store: Store,
    progress: Progress = unreported,
    listener: Callable[[Interactions], None] = lambda found: None,
) -> Interactions:
    """Score all pairs of layers or sites on the calibration windows: what two removals cost beyond what each costs.

    Args:
        unit: what is removed: see `find_units`.
        listener: told the map as it fills.

    Raises:
        DeviceError: out of memory with a single window.
        Cancelled: `progress` or the listener raised it; what was scored stays stored.
    """
    units, losses = find_units(loaded.n_layers, unit), make_loss_function(loaded, corpus, store)
    return interact(units, losses, len(corpus.calibration), corpus.window - 1, listener, progress)
