"""LoadedModel, [Variant] -> decoded tokens a second under each, timed in turns and undisturbed; site by site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from explorer.deltas import Variant
from explorer.evaluation.decode_times import DecodeTimes
from explorer.evaluation.generation import check_writes, time_decoding
from explorer.evaluation.token_rate import TokenRate
from explorer.masks import NONE, PARTS, Mask, Site
from explorer.model import LoadedModel, count_parameters
from explorer.progress import Progress, unreported

#: Runs of each variant: the least and the largest of six hold the median with 97% (1 - 2 / 2^6).
RUNS = 6
_ROUNDS = 4 * RUNS  # tried at the most, where other work comes in between
TOKENS = 12  # decoded in a run


def measure_decode_speed(
    loaded: LoadedModel, variants: Sequence[Mask | Variant], progress: Progress = unreported
) -> list[TokenRate | None]:
    """Time decoding of each variant, one after the other, round by round, so that a busy minute is everybody's.

    A round into which other work was let is not counted; with too few that were undisturbed there is no figure.

    Args:
        variants: in the order of the answers.
        progress: told the rounds.

    Raises:
        MaskError: a variant names a layer that the model lacks.
        UnsupportedModel: the model is streamed.
        Cancelled: `progress` raised it.
    """
    if variants:
        check_writes(loaded)
    tokens = min(TOKENS, (loaded.positions or 2 * TOKENS) // 2)
    for variant in variants:
        time_decoding(loaded, variant, 2)  # the first one is slower, whatever the variant
    rounds: list[list[float]] = []
    for _ in range(_ROUNDS):
        progress(len(rounds), RUNS, "Decoding")
        if len(rounds) == RUNS:
            break
        found = [time_decoding(loaded, variant, tokens) for variant in variants]
        sound = [speed for speed in found if speed is not None]
        if len(sound) == len(variants):
            rounds.append(sound)
    if len(rounds) < RUNS:
        return [None] * len(variants)
    return [TokenRate.of(speeds) for speeds in zip(*rounds, strict=True)]


def measure_decode_times(loaded: LoadedModel, progress: Progress = unreported) -> DecodeTimes | None:
    """Time a token with and without the attention, or the MLPs, of layers that are alike; the difference is theirs.

    A single site is too quick to be timed by itself; layers are alike where all of their costs are.

    Args:
        loaded: the model.
        progress: told the rounds.

    Returns:
        None where other work came in between.

    Raises:
        UnsupportedModel: the model is streamed.
        Cancelled: `progress` raised it.
    """
    groups = _group(loaded)
    speeds = measure_decode_speed(loaded, [NONE, *groups], progress)
    seconds = [1 / speed.median for speed in speeds if speed is not None]
    if len(seconds) < len(speeds):
        return None
    whole, *without = seconds
    sites: dict[Site, float] = {}
    for mask, left in zip(groups, without, strict=True):
        each = max(whole - left, 0.0) / len(mask.sites)
        alike = groups[mask]
        sites |= dict.fromkeys(alike.sites, each)
    return DecodeTimes(whole, sites)


def _group(loaded: LoadedModel) -> dict[Mask, Mask]:
    """Return what is left out to time sites that are alike -> those: all of them, but one attention of all stays.

    Of a model of which only whole layers can go these are layers, and a layer stays.
    """
    cost_model = count_parameters(loaded.model, loaded.architecture)
    alike: dict[tuple, set[Site]] = defaultdict(set)
    for layer in range(loaded.n_layers):
        for part in PARTS:
            if (site := Site(layer, part)) not in loaded.absent.sites:
                alike["layer" if loaded.architecture.whole else part, cost_model.kind(layer)].add(site)
    mixing = [sites for (part, _), sites in alike.items() if part != "mlp"]
    first = {site for sites in mixing for site in sites if site.layer == min(sites).layer}
    kept = first if len(mixing) == 1 and first != mixing[0] else set()
    return {Mask(frozenset(sites - kept)): Mask(frozenset(sites)) for sites in alike.values()}
