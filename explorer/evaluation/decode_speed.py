"""LoadedModel, [Variant] -> decoded tokens a second under each, timed in turns and undisturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from explorer.deltas import Variant
from explorer.evaluation.generation import check_writes, time_decoding
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.numerics import Interval
from explorer.progress import Progress, unreported

#: Runs of each variant: the least and the largest of six hold the median with 97% (1 - 2 / 2^6).
RUNS = 6
_ROUNDS = 4 * RUNS  # tried at the most, where other work comes in between
TOKENS = 12  # decoded in a run


@dataclass(frozen=True)
class DecodeSpeed:
    """New tokens a second of one text at a time.

    Args:
        median: of the runs.
        interval: the least and the largest of them.
    """

    median: float
    interval: Interval


def measure_decode_speed(
    loaded: LoadedModel, variants: Sequence[Mask | Variant], progress: Progress = unreported
) -> list[DecodeSpeed | None]:
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
    return [DecodeSpeed(median(speeds), (min(speeds), max(speeds))) for speeds in zip(*rounds, strict=True)]
