"""LoadedModel, Corpus, names -> [Importance]: every published one-shot measure, on the calibration windows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from explorer.errors import PlanError
from explorer.evaluation import Divergence, measure_divergence, score
from explorer.masks import NONE, PARTS, Mask, find_units
from explorer.measures.attention_patterns import measure_attention
from explorer.measures.gradients import measure_magnitude, measure_taylor
from explorer.measures.importance import MEASURES, Importance
from explorer.measures.interactions import Interactions, interact
from explorer.measures.linear_approximation import measure_replaceability
from explorer.measures.shapley import measure_coalitions, measure_shapley
from explorer.measures.similarity import measure_similarity
from explorer.measures.similarity_stats import SimilarityStats
from explorer.model import LoadedModel
from explorer.numerics import LossFunction, excess_loss
from explorer.progress import Progress, unreported
from explorer.storage import Store, make_key
from explorer.text import Corpus

UNITS = ("layer", *PARTS)

_COALITIONS = 10  # a window, as Siddiqui et al. draw them


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

    Measures of one kind come from one pass; what is stored is not computed again.

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
    losses = make_loss_function(loaded, corpus, store, progress=progress)
    found: list[Importance] = []
    kinds = {MEASURES[name].kind for name in asked}
    if "similarity" in kinds:
        found += read_similarity(measure_similarity(loaded, corpus, store, progress))
    if "damage" in kinds:
        found += _measure_damage(loaded, losses, corpus, units)
    if "divergence" in kinds:
        found += _measure_divergence(loaded, corpus, store, progress, units)
    if "magnitude" in asked:
        found += measure_magnitude(loaded)
    if "taylor" in asked:
        found += _stored(loaded, corpus, store, "taylor", lambda size: measure_taylor(loaded, corpus, progress, size))
    if "linear" in kinds:
        found += _stored(
            loaded, corpus, store, "replaceability", lambda size: measure_replaceability(loaded, corpus, progress, size)
        )
    if "coalition" in asked:
        found += _of_games(loaded, losses, corpus, "coalition", _COALITIONS, seed, progress, units)
    if "shapley" in asked:
        found += _of_games(loaded, losses, corpus, "shapley", permutations, seed, progress, units)
    if "attention" in kinds:
        found += measure_attention(loaded, corpus, store, progress).importances()
    return [each for name in asked for each in found if each.measure == name and each.unit in units]


def check_measures(names: Iterable[str]) -> None:
    """Raise PlanError at a name that `MEASURES` lacks."""
    if unknown := [name for name in names if name not in MEASURES]:
        raise PlanError("Unknown measure", repr(unknown[0]), "Use one of " + ", ".join(MEASURES))


def make_loss_function(
    loaded: LoadedModel,
    corpus: Corpus,
    store: Store,
    criterion: str = "perplexity",
    progress: Progress = unreported,
) -> LossFunction:
    """Return what gives a criterion's nats, or logit distances, of masks on slices of the calibration windows."""

    def nll(masks: Sequence[Mask], rows: slice) -> np.ndarray:
        scores = score(loaded, corpus, masks, store, "calibration", progress, rows=rows)
        return np.stack([found.nll for found in scores])

    def divergence(masks: Sequence[Mask], rows: slice) -> np.ndarray:
        found = measure_divergence(loaded, corpus, masks, store, "calibration", progress, rows)
        return np.stack([each.kl if criterion == "kl" else each.logit_l2 for each in found])

    return nll if criterion == "perplexity" else divergence


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


def read_similarity(found: SimilarityStats) -> list[Importance]:
    """Take the measures of the residual stream from what one pass recorded."""
    angular = np.diagonal(found.angular["last_token"], 1, 1, 2)
    read = [Importance("angular-distance", "layer", angular.mean(0), angular)]
    for unit in UNITS:
        for name, tokens in (
            ("block-influence", found.influence[unit]),
            ("relative-l1", found.sizes[1, unit]),
            ("relative-l2", found.sizes[2, unit]),
        ):
            windows = tokens.mean(axis=1)
            read.append(Importance(name, unit, windows.mean(0), windows))
    return read


def find_intervals(found: SimilarityStats, token: str, draws: int = 1000, seed: int = 0) -> np.ndarray | None:
    """95% bootstrap intervals of the angular distance of every pair of boundaries, (L+1, L+1, 2)."""
    windows = found.angular[token]
    flat = windows.reshape(len(windows), -1)
    intervals = Importance("angular-distance", "layer", flat.mean(0), flat).intervals(draws, seed)
    return None if intervals is None else intervals.reshape(*windows.shape[1:], 2)


def _measure_damage(
    loaded: LoadedModel, losses: LossFunction, corpus: Corpus, asked: Sequence[str]
) -> list[Importance]:
    """Nats a token lost without each unit: the first step of a greedy search, and Shortened LLaMA's perplexity."""
    units = {unit: find_units(loaded.n_layers, unit) for unit in asked}
    masks = [NONE, *(mask for each in units.values() for mask in each)]
    baseline, *others = losses(masks, slice(0, len(corpus.calibration)))
    lost = dict(zip(masks[1:], excess_loss(np.array(others), baseline) / (corpus.window - 1), strict=True))
    return [_from_windows("loss", unit, np.stack([lost[mask] for mask in each])) for unit, each in units.items()]


def _measure_divergence(
    loaded: LoadedModel, corpus: Corpus, store: Store, progress: Progress, asked: Sequence[str]
) -> list[Importance]:
    units = {unit: find_units(loaded.n_layers, unit) for unit in asked}
    masks = [mask for each in units.values() for mask in each]
    found = {d.mask: d for d in measure_divergence(loaded, corpus, masks, store, "calibration", progress)}

    def kl(d: Divergence) -> np.ndarray:
        return d.kl / d.tokens

    def distance(d: Divergence) -> np.ndarray:
        return d.logit_l2 / d.tokens

    def disagreement(d: Divergence) -> np.ndarray:
        return 1 - d.top1_matches / d.tokens

    return [
        _from_windows(name, unit, np.stack([take(found[mask]) for mask in each]))
        for name, take in (("kl", kl), ("logit-l2", distance), ("disagreement", disagreement))
        for unit, each in units.items()
    ]


def _from_windows(name: str, unit: str, rows: np.ndarray) -> Importance:
    """Make an importance of values (L, n_windows)."""
    return Importance(name, unit, rows.mean(axis=1), rows.T)


def _of_games(
    loaded: LoadedModel,
    losses: LossFunction,
    corpus: Corpus,
    name: str,
    draws: int,
    seed: int,
    progress: Progress,
    asked: Sequence[str],
) -> list[Importance]:
    """Measure coalitions of layers, or of sites, or both."""
    play = measure_coalitions if name == "coalition" else measure_shapley
    found: list[Importance] = []
    for unit, players in (("layer", ("layer",)), ("site", PARTS)):
        if not set(players) & set(asked):
            continue
        units = find_units(loaded.n_layers, unit)
        values, samples = play(units, losses, len(corpus.calibration), draws, seed, progress)
        values, samples = values / (corpus.window - 1), samples / (corpus.window - 1)
        step = len(players)
        found += [Importance(name, part, values[i::step], samples[:, i::step]) for i, part in enumerate(players)]
    return found


def _stored(
    loaded: LoadedModel, corpus: Corpus, store: Store, kind: str, compute: Callable[[int], list[Importance]]
) -> list[Importance]:
    """Return an importance of each unit from the store, computed in batches of one size if it is not there."""

    def work(size: int) -> dict[str, np.ndarray]:
        key = make_key(kind, context=loaded.context(size), corpus=corpus.digest)
        arrays = store.arrays(key)
        if arrays is None:
            made = compute(size)
            arrays = {f"{i.unit} values": i.values for i in made}
            arrays |= {f"{i.unit} samples": i.samples for i in made if i.samples is not None}
            store.add_arrays(key, arrays)
        return arrays

    arrays = loaded.batch_shape.run(work, corpus.window)
    return [Importance(kind, unit, arrays[f"{unit} values"], arrays[f"{unit} samples"]) for unit in UNITS]
