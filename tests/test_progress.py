"""What long work tells of how far it is."""

from __future__ import annotations

import pytest

from explorer.errors import Cancelled
from explorer.progress import Count


def test_the_steps_within_one_of_several_tell_how_many_are_done() -> None:
    told: list[tuple[int, int, str]] = []
    count = Count(lambda *of: told.append(of), 3, "Scoring masks", done=1)
    count.tell(7, 9, "Layer by layer")
    count.done = 2
    count.tell(0, 9, "Layer by layer")
    count.tell()
    assert told == [(1, 3, "Scoring masks"), (2, 3, "Scoring masks"), (2, 3, "Scoring masks")]


def test_what_stops_the_whole_stops_a_step() -> None:
    def stop(*_: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        Count(stop, 3, "Scoring masks").tell(1, 9, "Layer by layer")
