"""Time that a piece of work took itself, without that of others that were let in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from explorer.holding import holding


class Stopwatch:
    """Runs from when it is made; `stood` are the seconds in which other work ran."""

    def __init__(self) -> None:
        self.start, self.stood = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds that the work took so far."""
        return time.perf_counter() - self.start - self.stood


_RUNNING: ContextVar[tuple[Stopwatch, ...]] = ContextVar("explorer_stopwatches", default=())


@contextmanager
def timing() -> Iterator[Stopwatch]:
    """Time the block."""
    watch = Stopwatch()
    with holding(_RUNNING, (*_RUNNING.get(), watch)):
        yield watch


@contextmanager
def standing_still() -> Iterator[None]:
    """Leave the block out of what is timed around it: it is other work, which was let in."""
    start = time.perf_counter()
    try:
        yield
    finally:
        for watch in _RUNNING.get():
            watch.stood += time.perf_counter() - start
