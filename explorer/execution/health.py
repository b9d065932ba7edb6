"""How the worker does."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    """How the worker does.

    Args:
        ok: its thread lives, and was heard from.
        busy: something runs.
        queued: jobs that wait.
        beats_ago: seconds since the thread was last heard from.
    """

    ok: bool
    busy: bool
    queued: int
    beats_ago: float
