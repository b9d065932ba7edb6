"""A minute of twenty users, two models, cancels and lost connections: no wrong number, nothing kept for ever."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.crowd import HABITS, SLACK, stand
from tests.support.tiny_models import Tiny


@pytest.mark.stress
def test_a_minute_of_a_crowd_shows_no_wrong_number_and_leaves_nothing_behind(tiny: Tiny, tmp_path: Path) -> None:
    found = stand(tiny, tmp_path, seconds=60.0)
    assert found.wrong == []
    assert found.outcome.errors == []
    assert len({model for model, *_ in found.outcome.readouts}) == 2
    assert found.outcome.done.keys() == HABITS.keys()
    assert found.after.bytes - found.before.bytes < 200e6
    assert found.after.descriptors <= found.before.descriptors + SLACK
    assert found.health["ok"]
