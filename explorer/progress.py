"""How far work is: what long work tells, and what stops it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar

from explorer.holding import holding

#: Told how far work is: (done, total, what). It may raise `Cancelled` to stop the work.
Progress = Callable[[int, int, str], None]


def unreported(done: int, total: int, what: str) -> None:
    """Report progress to nobody."""


_LISTENER: ContextVar[Callable[[float], None] | None] = ContextVar("explorer_time_left", default=None)


def hearing_left(listener: Callable[[float], None]) -> AbstractContextManager[object]:
    """Have a listener told in the block how many seconds are left of what is worked on."""
    return holding(_LISTENER, listener)


def tell_left(seconds: float | None) -> None:
    """Tell whoever listens how many seconds are left, where that is known from what such work took before."""
    listener = _LISTENER.get()
    if listener is not None and seconds is not None:
        listener(seconds)


class Count:
    """Tells how many of some things are done, whatever the step within one of them.

    Args:
        progress: told.
        total: how many there are.
        what: is done to them.
        done: how many are.
    """

    def __init__(self, progress: Progress, total: int, what: str, done: int = 0) -> None:
        self.progress, self.total, self.what, self.done = progress, total, what, done

    def tell(self, *_: object) -> None:
        """Tell it; a `Progress` for the work on one of them. May raise `Cancelled`."""
        self.progress(self.done, self.total, self.what)
