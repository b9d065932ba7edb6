"""What servers were asked and have not finished: who takes it up, and who does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from explorer.storage import unfinished
from explorer.storage.store import Store
from explorer.storage.unfinished import Asked, Unfinished

PLAN, SCORE = Asked("k1", '{"kind": "plan"}', "browser", "Curve of greedy"), Asked("k2", "{}", "api", "score --mask 1")


@contextmanager
def server(folder: Path) -> Iterator[Unfinished]:
    """What one server knows, which ends with the block."""
    with closing(Store(folder)) as store:
        made = Unfinished(store)
        yield made
        made.leave()


def test_what_a_server_left_is_taken_up_once_in_the_order_in_which_it_was_asked(tmp_path: Path) -> None:
    with server(tmp_path) as first:
        first.note(PLAN)
        first.note(SCORE)
        with server(tmp_path) as second:
            assert second.take_up() == [], "the first one lives"
    with server(tmp_path) as second, server(tmp_path) as third:
        assert second.take_up() == [PLAN, SCORE]
        assert third.take_up() == []
        second.strike("k1")
    with server(tmp_path) as last:
        assert last.take_up() == [SCORE]
        assert len(list((tmp_path / "servers").iterdir())) == 1, "of the others nothing is left"


def test_what_another_works_on_is_not_taken(tmp_path: Path) -> None:
    with server(tmp_path) as living:
        living.note(SCORE)
        with server(tmp_path) as first:
            first.note(SCORE)
            first.note(PLAN)
        with server(tmp_path) as second:
            assert second.take_up() == [PLAN]
            second.strike("k1")
        living.strike("k2")
        with server(tmp_path) as third:
            assert third.take_up() == []


def test_what_is_of_yesterday_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = unfinished.time.time
    with server(tmp_path) as first:
        first.note(PLAN)
        monkeypatch.setattr(unfinished.time, "time", lambda: clock() + 80000)
        first.note(SCORE)
    with server(tmp_path) as second:
        monkeypatch.setattr(unfinished.time, "time", lambda: clock() + 90000)
        assert second.take_up() == [SCORE]
    monkeypatch.undo()
    with server(tmp_path) as third:
        assert third.take_up() == [SCORE]


def test_what_servers_end_over_is_taken_up_twice(tmp_path: Path) -> None:
    with server(tmp_path) as first:
        first.note(PLAN)
    for expected in ([PLAN], [PLAN], [], []):
        with server(tmp_path) as another:
            assert another.take_up() == expected
