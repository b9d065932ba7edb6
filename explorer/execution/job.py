"""A piece of work that a page asked for: how far it is, and how long it will take."""

from __future__ import annotations

import math
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from explorer.errors import Cancelled, ExplorerError

#: Smaller goes first.
READOUT, SAMPLE, SWEEP, IDLE = 0, 1, 2, 3


class Job:
    """A piece of work and how far it is.

    Args:
        key: what it is; equal keys are equal work.
        title: what it is, in words.
        work: does it.
        priority: smaller goes first.
        can_preempt: tells whether it could run inside another job now.
        patience: seconds that it goes on after all who wanted it have left.
        kind: of work that takes about as long, if anything is known of that.
    """

    def __init__(
        self,
        key: str,
        title: str,
        work: Callable[[Job], Any],
        priority: int = SWEEP,
        can_preempt: Callable[[], bool] = lambda: False,
        patience: float = 0.0,
        kind: Hashable = None,
    ) -> None:
        self.key, self.title, self.work, self.priority, self.can_preempt = key, title, work, priority, can_preempt
        self.patience, self.kind = patience, kind
        self.noted = ""  # the key under which it is noted as unfinished, if it is
        self.page = ""  # set by the worker: where it was asked for first
        self.ended = math.inf  # when, by the monotonic clock
        self.changed: Callable[[Job, bool], None] = lambda job, moved: None  # set by the worker; moved: to a new state
        self._state = "queued"
        self.done, self.total, self.what = 0, 0, title
        self.partial: Any = None
        self.result: Any = None
        self.error: ExplorerError | None = None
        self.owners: set[tuple[str, str]] = set()
        self.preemptible = False  # set by the work: whether others may run inside it
        self.on_checkpoint: Callable[[Job], None] = lambda job: None  # set by the worker: called at each step
        self.giving_way = False  # set by the worker: it ends at its next step, and begins again later
        self._stop = threading.Event()
        self._clock = _Clock()

    @property
    def state(self) -> str:
        """`queued`, `running`, `paused`, `done`, `failed` or `cancelled`."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state
        if not self.active:
            self.ended = time.monotonic()
        self.tell(True)

    def tell(self, moved: bool) -> None:
        """Tell whoever listens; what a listener breaks is not the work's."""
        try:
            self.changed(self, moved)
        except BaseException:
            traceback.print_exc(file=sys.stderr)

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("queued", "running", "paused")

    @property
    def at_hand(self) -> bool:
        """Whether it goes on or is through, and was not stopped: to ask for it again begins nothing."""
        return (self.active or self.state == "done") and not self.cancelling

    @property
    def latest(self) -> Any:
        """The result if it is done, else the partial one."""
        return self.result if self.state == "done" else self.partial

    @property
    def cancelling(self) -> bool:
        """Whether it was cancelled, or will be at its next step."""
        return self._stop.is_set() and self.state != "done"

    @property
    def fits(self) -> bool:
        """Whether it could run inside another job now; not if that cannot be told."""
        try:
            return self.can_preempt()
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return False

    @property
    def fraction(self) -> float:
        """How much of the current step is done, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time that the current step will take: by what such work took before, and more and more by its pace so far.

        None where there is neither.
        """
        return self._clock.seconds_left(self.done, self.total) if self.active else None

    def progress(self, done: int, total: int, what: str) -> None:
        """Note how far the work is. Raises Cancelled if nobody wants it any more."""
        if (total, what) != (self.total, self.what) or done < self.done:
            self._clock = _Clock(done)
        self.done, self.total, self.what = done, total, what
        self.tell(False)
        self.check()

    def expect(self, seconds: float) -> None:
        """Note how many seconds the current step will take from now on, by what such work took before."""
        self._clock.expect(seconds)

    def show(self, partial: Any) -> None:
        """Show an unfinished result. Raises Cancelled if nobody wants it any more."""
        self.partial = partial
        self.tell(False)
        self.check()

    def check(self) -> None:
        """Let more urgent work go first. Raises Cancelled if nobody wants this any more, or it begins again later."""
        self.on_checkpoint(self)
        if self._stop.is_set() or self.giving_way:
            raise Cancelled

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still for the time of the block."""
        self.state, start = "paused", time.monotonic()
        try:
            yield
        finally:
            self.state = "running"
            self._clock.stood(time.monotonic() - start)

    def cancel(self) -> None:
        """Stop the work at its next step."""
        self._stop.set()
        if self.state == "queued":
            self.state = "cancelled"


class _Clock:
    """Times one step of a job."""

    def __init__(self, done: int = 0) -> None:
        self.start, self.done = time.monotonic(), done
        self.ends: float | None = None  # when, as it is expected

    def expect(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds

    def stood(self, seconds: float) -> None:
        """Leave out time in which nothing was done."""
        self.start += seconds
        self.ends = None if self.ends is None else self.ends + seconds

    def seconds_left(self, done: int, total: int) -> float | None:
        now = time.monotonic()
        expected = None if self.ends is None else max(0.0, self.ends - now)
        if done <= self.done:
            return expected
        found = (now - self.start) * (total - done) / (done - self.done)
        share = done / total
        return found if expected is None else share * found + (1 - share) * expected
