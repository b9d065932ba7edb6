"""How long a training takes, from a few steps that are taken and let go."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.deltas import ModifierSpec, Variant
from explorer.healing.recipe import CHECKPOINTS
from explorer.healing.watcher import TrainingRecord, Watcher, watching
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.modifiers import modify
from explorer.progress import Progress, unreported
from explorer.stopwatch import timing
from explorer.storage import Store
from explorer.text import Corpus

TIMED = 3  # steps


@dataclass(frozen=True)
class Pace:
    """How long a training takes.

    Args:
        setup: seconds beside the steps: states, texts of its own, the first step's slowness.
        step: seconds of a step.
        checkpoint: seconds in which the windows that are kept apart are judged.
        parts: trainings that come one after the other, as many steps each.
    """

    setup: float
    step: float
    checkpoint: float
    parts: int = 1

    def count_steps(self, seconds: float) -> int:
        """Return how many steps, of each part, fit into a time with the checkpoints between them; 0 if none does."""
        left = (seconds - self.setup) / self.parts - CHECKPOINTS * self.checkpoint
        return max(0, int(left / self.step))


class _Records(Watcher):
    def __init__(self) -> None:
        self.found: list[TrainingRecord] = []

    def record(self, record: TrainingRecord) -> None:
        self.found.append(record)


def measure_pace(
    loaded: LoadedModel, corpus: Corpus, variant: Mask | Variant, spec: ModifierSpec, progress: Progress = unreported
) -> Pace:
    """Time three steps of a training over a variant; what they taught is let go. Raises what `modify` raises."""
    records, short = _Records(), spec.having(steps=str(TIMED), check=str(TIMED), until="0")
    with watching(records), timing() as watch:
        modify(loaded, corpus, variant, [short], Store(None), progress)
    ended = [record.seconds for record in records.found if record.part == 0 and record.loss is not None]
    (judged,) = (record.seconds for record in records.found if record.part == 0 and record.loss is None)
    step, checkpoint = (ended[-1] - ended[0]) / (TIMED - 1), judged - ended[-1]
    parts = 1 + max(record.part for record in records.found)
    return Pace(max(0.0, watch.seconds - parts * (TIMED * step + checkpoint)), step, checkpoint, parts)
