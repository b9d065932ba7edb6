"""What everybody waits for, in words: whose page asked, what is left of it, and who may stop it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.execution.job import IDLE, SWEEP
from explorer.execution.owners import API
from explorer.execution.worker import Worker
from tests.support.browser import serve
from tests.support.gates import WAIT, Gate, Steps, always, wait
from tests.support.many_users import TEXT
from tests.support.tiny_models import WINDOW, Tiny
from tests.support.visitors import Visitor
from ui.live.work import describe_waiting, describe_work


class Server:
    """A worker with an engine's face, and who is there."""

    def __init__(self) -> None:
        self.there = {"ann", "bob"}
        self.worker = Worker(self.there.__contains__)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.worker.close()


def test_a_job_says_where_it_was_asked_for_and_how_long_it_takes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Steps()
    server.worker.begin_page("ann", "plans")
    plan = server.worker.ask("ann", "plan", "plan", "Plan greedy/site", steps, SWEEP, always, patience=600)
    assert steps.started.wait(WAIT)
    queued = server.worker.ask("bob", "pairs", "pairs", "All pairs", Gate(), IDLE)
    clock = time.monotonic()
    monkeypatch.setattr("explorer.execution.job.time.monotonic", lambda: clock + 60 * steps.steps)
    while plan.seconds_left is None:
        time.sleep(0.001)
    said = describe_waiting(plan, server.worker, "cid")
    assert re.fullmatch(r"Plan greedy/site: \d+ of \d+, for somebody else, on Plans, .* left", said)
    said = describe_waiting(queued, server.worker, "cid")
    assert re.fullmatch("All pairs, for somebody else, waits behind 1, about .*", said)
    assert "for you, on Plans" in describe_waiting(plan, server.worker, "ann")
    server.there.discard("ann")
    assert ", for a browser that has left, on Plans, " in describe_waiting(plan, server.worker, "ann")
    steps.open.set()
    wait(plan)


def test_only_what_nobody_wants_can_be_stopped(server: Server) -> None:
    steps = Steps()
    assert describe_work(server.worker, "ann") == {"words": "Work: none", "stops": []}
    plan = server.worker.ask("ann", "plan", "plan", "Plan <b>", steps, SWEEP, always, patience=600)
    assert steps.started.wait(WAIT)
    assert describe_work(server.worker, "ann")["stops"] == []
    server.there.discard("ann")
    ((key, words),) = describe_work(server.worker, "bob")["stops"]
    assert words == "Stop Plan <b>"
    assert plan.key not in key
    steps.open.set()
    wait(plan)


def test_what_a_program_asked_for_says_so_and_can_be_stopped(server: Server) -> None:
    steps = Steps()
    job = server.worker.ask(API, "key", "key", "score --mask 1", steps, SWEEP, always)
    assert steps.started.wait(WAIT)
    described = describe_work(server.worker, "ann")
    assert ", for a program" in described["words"]
    assert described["stops"][0][1] == "Stop score --mask 1"
    steps.open.set()
    wait(job)


def test_a_plan_goes_on_when_its_browser_has_gone_and_is_found_by_the_next(tiny: Tiny, tmp_path: Path) -> None:
    how = {**TEXT, "model": str(tiny.folder("llama")), "tokens": str(4000 * WINDOW)}

    async def stay(visitor: Visitor, words: str) -> None:
        async with asyncio.timeout(WAIT * 10):
            while words not in visitor.work:
                await asyncio.sleep(0.02)

    async def leave_and_return(url: str) -> list[str]:
        async with Visitor(url, **how) as first:
            await first._ask("plans")
            await stay(first, "Curve of")
        async with Visitor(url, **how) as second:
            await second._ask("")
            await stay(second, "for a browser that has left, on Plans")
            await asyncio.sleep(3)
            assert "Curve of" in second.work, "it was to take longer than the browser was away"
            left = second.work
            await second._ask("plans")
            await asyncio.sleep(1)
            await stay(second, "Curve of")
            assert "a browser that has left" not in second.work, "it has another one now"
            return [left, *second.errors]

    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        assert len(asyncio.run(leave_and_return(url))) == 1
