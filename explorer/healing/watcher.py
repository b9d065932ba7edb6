"""What a training tells whoever watches: a record a step, and the variant at each checkpoint. Knows no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any

from explorer.deltas import Variant
from explorer.holding import holding


@dataclass(frozen=True)
class TrainingRecord:
    """What is known after one step of a training.

    Args:
        modifier: what trains.
        part: of several trainings that one modifier makes, counted from 0.
        step: steps taken, of `steps`.
        loss: mean of the step's windows before it was taken; None where the record is of a checkpoint.
        learning_rate: of the step.
        validation: loss on the windows kept apart, at a checkpoint.
        rows: windows that go through the model at once; a step adds up as many of those as make its batch.
        seconds: since the training began or went on, without other work.
        tokens: ids trained on in that time.
    """

    modifier: str
    part: int
    step: int
    steps: int
    loss: float | None
    learning_rate: float | None
    validation: float | None
    rows: int
    seconds: float
    tokens: int

    @property
    def tokens_a_second(self) -> float | None:
        """How fast it trains; None where no time has passed."""
        return self.tokens / self.seconds if self.seconds > 0 and self.tokens else None

    def describe(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"tokens_a_second": self.tokens_a_second}


def read_record(modifier: str, part: int, steps: int, entry: Mapping[str, Any]) -> TrainingRecord | None:
    """Return what the Trainer noted of a step or a checkpoint; None of what it notes beside."""
    if "loss" not in entry and "eval_loss" not in entry:
        return None
    loss, rate, validation = (entry.get(name) for name in ("loss", "learning_rate", "eval_loss"))
    pace = entry["rows"], entry["seconds"], entry["tokens"]
    return TrainingRecord(modifier, part, entry["step"], steps, loss, rate, validation, *pace)


class Watcher:
    """Sees a training; this one lets it go by.

    One may raise `Cancelled` to stop it; asked for again, it goes on at the last checkpoint.
    """

    def record(self, record: TrainingRecord) -> None:
        """Take what is known after a step; of a training that goes on, all that was known before first."""

    def checkpoint(self, step: int, make: Callable[[], Variant]) -> None:
        """Take the variant as it is at a checkpoint, made if it is asked for."""


_WATCHER: ContextVar[Watcher | None] = ContextVar("explorer_watcher", default=None)


def watching(watcher: Watcher) -> AbstractContextManager[Watcher]:
    """Have a watcher see every training in the block."""
    return holding(_WATCHER, watcher)


def find_watcher() -> Watcher:
    """Return who watches the calling thread's trainings."""
    return _WATCHER.get() or Watcher()
