"""How far work is: what long work tells, and what stops it."""

from __future__ import annotations

from collections.abc import Callable

#: Told how far work is: (done, total, what). It may raise `Cancelled` to stop the work.
Progress = Callable[[int, int, str], None]


def unreported(done: int, total: int, what: str) -> None:
    """Report progress to nobody."""
