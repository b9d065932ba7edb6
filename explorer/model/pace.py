"""How long work of some kind takes on this machine, as measured while it went on."""

from __future__ import annotations

from collections.abc import Hashable


class Pace:
    """Seconds for what work costs, by its kind: layers run on a batch, whose shape is part of the kind."""

    def __init__(self) -> None:
        self._spent: dict[Hashable, tuple[float, float]] = {}  # seconds, cost

    def note(self, kind: Hashable, cost: float, seconds: float) -> None:
        """Note what some work took."""
        before = self._spent.get(kind, (0.0, 0.0))
        self._spent[kind] = before[0] + seconds, before[1] + cost

    def estimate(self, kind: Hashable, cost: float) -> float | None:
        """Return the seconds that such work will take; None where there was none yet."""
        seconds, known = self._spent.get(kind, (0.0, 0.0))
        return seconds * cost / known if known else None
