"""Servers that are killed, and two over one cache: what is stored is right, and what was asked is taken up again."""

from __future__ import annotations

import os
import random
import time
from contextlib import closing
from itertools import combinations
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from explorer.masks.units import find_units
from explorer.storage.exchange import list_rows
from explorer.storage.store import Store
from explorer.verbs.request import answer
from tests.support.api_server import call, serve_api, wait_for_answer
from tests.support.processes import child
from tests.support.requests import write_request
from tests.support.tiny_models import Tiny

#: How many of ten moments are tried; `make test-kills` has all of them.
KILLS = int(os.environ.get("KILLS", "3"))
STEP = 0.01  # seconds before each SQL statement of the work
MASKS = [str(a | b) for a, b in combinations(find_units(4, "site"), 2)]


@pytest.fixture
def models(tiny: Tiny) -> Path:
    return tiny.folder("llama").resolve().parent


def _rows(cache: Path) -> set[tuple]:
    with closing(Store(cache)) as store:
        return {(table, *row) for table, rows in list_rows(store).items() for row in rows}


def _receive(pipe: Connection) -> int:
    assert pipe.poll(60)
    return pipe.recv()


def test_a_server_killed_at_any_moment_goes_on_by_itself(tiny: Tiny, models: Path, tmp_path: Path) -> None:
    asked = write_request(tiny, "score", {"mask": MASKS}, windows=9)
    expected, cache, draw = answer(asked, tmp_path / "undisturbed"), tmp_path / "cache", random.Random(4)
    undisturbed, stored = _rows(tmp_path / "undisturbed"), [0]
    for moment in range(KILLS):
        with child(serve_api, cache, models, STEP) as (process, pipe):
            port = _receive(pipe)
            if not moment:
                assert call(port, "/api/requests", asked)[0] == 202
            (job,) = call(port, "/api/jobs")[1]["jobs"]
            assert (job["title"], job["owner"], job["key"]) == (asked.title, "api", asked.key)
            time.sleep(draw.uniform(0, 5 / KILLS))
            process.kill()
            process.join()
        found = _rows(cache)
        assert found <= undisturbed
        stored.append(len(found))
    assert 0 < stored[-1] < len(undisturbed), "it was killed in the midst of it"
    with child(serve_api, cache, models) as (_, pipe):
        assert wait_for_answer(_receive(pipe), asked) == expected
    assert _rows(cache) == undisturbed
    with child(serve_api, cache, models) as (_, pipe):
        assert call(_receive(pipe), "/api/jobs")[1] == {"jobs": []}, "what has ended is struck out"


def test_two_servers_on_one_cache_answer_alike_and_take_nothing_up_twice(
    tiny: Tiny, models: Path, tmp_path: Path
) -> None:
    parts = MASKS[:20], MASKS[8:]
    several = [write_request(tiny, "score", {"mask": masks}, windows=9) for masks in parts]
    expected = [answer(asked, tmp_path / "undisturbed") for asked in several]
    cache = tmp_path / "cache"
    with child(serve_api, cache, models, STEP) as (process, pipe):
        port = _receive(pipe)
        for asked in several:
            call(port, "/api/requests", asked)
        process.kill()
        process.join()
    with child(serve_api, cache, models, STEP) as (_, one), child(serve_api, cache, models, STEP) as (_, other):
        ports = _receive(one), _receive(other)
        listed = [{job["key"] for job in call(port, "/api/jobs")[1]["jobs"]} for port in ports]
        assert listed[0] | listed[1] == {asked.key for asked in several}
        assert not listed[0] & listed[1]
        for port, asked in zip(ports, several, strict=True):
            assert call(port, "/api/requests", asked)[0] == 202
        both = [wait_for_answer(port, asked) for port, asked in zip(ports, several, strict=True)]
    assert both == expected
    assert _rows(cache) == _rows(tmp_path / "undisturbed")
