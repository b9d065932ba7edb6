"""What everybody waits for, in words: whose page asked, what is left of it, and who may stop it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from explorer.execution.job import IDLE, SWEEP, Job
from explorer.execution.owners import API
from explorer.execution.worker import Worker
from tests.support.browser import serve
from tests.support.gates import WAIT, Gate, Steps, always, wait
from tests.support.many_users import TEXT
from tests.support.tiny_models import WINDOW, Tiny
from tests.support.visitors import Visitor
from ui.live import waiting
from ui.live.live_panels import PACE, SLOW, Watchers


class Server:
    """A worker with an engine's face, and who is there."""

    def __init__(self) -> None:
        self.there = {"ann", "bob"}
        self.worker = Worker(self.there.__contains__)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(waiting, "get_engine", lambda: made)
    monkeypatch.setattr(waiting, "watch", lambda job, **how: job)
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
    said = waiting.describe_queued(plan)
    assert re.fullmatch(r"Plan greedy/site: \d+ of \d+, for somebody else, on Plans, .* left", said)
    assert waiting.describe_queued(queued) == "All pairs, for somebody else, waits behind 1"
    monkeypatch.setattr(waiting, "get_owner", lambda: "ann")
    assert "for you, on Plans" in waiting.describe_queued(plan)
    server.there.discard("ann")
    assert ", for a browser that has left, on Plans, " in waiting.describe_queued(plan)
    steps.open.set()
    wait(plan)


SCRIPT = """
from ui.live.waiting import draw_queue
draw_queue()
"""


def test_only_what_nobody_wants_has_a_button_that_stops_it(server: Server) -> None:
    steps = Steps()
    assert AppTest.from_string(SCRIPT, default_timeout=60).run().caption[0].value == "Queue: empty"
    plan = server.worker.ask("ann", "plan", "plan", "Plan <b>", steps, SWEEP, always, patience=600)
    assert steps.started.wait(WAIT)
    app = AppTest.from_string(SCRIPT, default_timeout=60).run()
    assert not app.button
    server.there.discard("ann")
    app.run()
    assert "<b>" not in app.button[0].label
    app.button[0].click().run()
    assert wait(plan).state == "cancelled"
    assert app.run().caption[0].value == "Queue: empty"


def test_what_a_program_asked_for_says_so_and_can_be_stopped(server: Server) -> None:
    steps = Steps()
    job = server.worker.ask(API, "key", "key", "score --mask 1", steps, SWEEP, always)
    assert steps.started.wait(WAIT)
    app = AppTest.from_string(SCRIPT, default_timeout=60).run()
    assert ", for a program" in app.caption[0].value
    app.button[0].click().run()
    assert wait(job).state == "cancelled"


def test_panels_run_at_their_own_pace() -> None:
    watchers, planned = Watchers(), []

    def note(session: str, panels: set[str], pause: float) -> None:
        planned.extend((panel, pause) for panel in panels)

    watchers._plan = note  # type: ignore[method-assign]
    job: Job = Job("key", "title", lambda job: None)
    ways: dict[str, dict[str, Any]] = {"shown": {"states_only": False}, "states": {"states_only": True},
                                       "queue": {"states_only": False, "slowly": True}}  # fmt: skip
    for panel, how in ways.items():
        watchers.watch("session", panel, job, **how)
    watchers._spread(job, False, PACE)
    assert sorted(planned) == [("queue", SLOW), ("shown", PACE)]
    planned.clear()
    watchers._spread(job, True, 0)
    assert sorted(planned) == [("queue", 0), ("shown", 0), ("states", 0)]
    planned.clear()
    watchers._drop("session")
    watchers._spread(job, True, 0)
    assert planned == []


def test_a_plan_goes_on_when_its_browser_has_gone_and_is_found_by_the_next(tiny: Tiny, tmp_path: Path) -> None:
    how = {**TEXT, "model": str(tiny.folder("llama")), "tokens": str(4000 * WINDOW)}

    async def stay(visitor: Visitor, words: str) -> None:
        async with asyncio.timeout(WAIT * 10):
            while words not in visitor.queue:
                await asyncio.sleep(0.02)

    async def leave_and_return(url: str) -> list[str]:
        async with Visitor(url, **how) as first:
            await first._ask("plans")
            await stay(first, "Curve of")
        async with Visitor(url, **how) as second:
            await second._ask("")
            await stay(second, "for a browser that has left, on Plans")
            await asyncio.sleep(3)
            assert "Curve of" in second.queue, "it was to take longer than the browser was away"
            left = second.queue
            await second._ask("plans")
            await asyncio.sleep(1)
            await stay(second, "Curve of")
            assert "a browser that has left" not in second.queue, "it has another one now"
            return [left, *second.errors]

    with serve(EXPLORER_CACHE=str(tmp_path)) as url:
        assert len(asyncio.run(leave_and_return(url))) == 1
