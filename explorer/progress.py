"""How far work is: what long work tells, and what stops it."""

from __future__ import annotations

from collections.abc import Callable

#: Told how far work is: (done, total, what). It may raise `Cancelled` to stop the work.
Progress = Callable[[int, int, str], None]


def unreported(done: int, total: int, what: str) -> None:
    """Report progress to nobody."""


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
