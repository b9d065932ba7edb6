"""What fails, fails alone: the worker outlives its jobs, its listeners and its thread, and long work its browser."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from explorer.errors import ExplorerError, TextError
from explorer.execution.failures import explain
from explorer.execution.job import IDLE, READOUT, SWEEP, Job
from explorer.execution.worker import Worker
from tests.support.gates import WAIT, Gate, Steps, always, wait


class Panic(BaseException):
    """What a library written in Rust raises when it panics."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Odd(SystemExit):
    def __repr__(self) -> str:
        raise KeyboardInterrupt


RAISED = [Panic("index out of bounds"), SystemExit(3), MemoryError(), GeneratorExit(), KeyboardInterrupt(),
          RecursionError("too deep"), Unprintable(), Odd(Unprintable())]  # fmt: skip


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def settle(seconds: float = 0.05) -> None:
    threading.Event().wait(seconds)


@pytest.mark.parametrize("raised", RAISED, ids=lambda raised: type(raised).__name__)
@pytest.mark.parametrize("inside", [False, True])
def test_whatever_a_job_raises_ends_it_alone(worker: Worker, raised: BaseException, inside: bool) -> None:
    def fail(job: Job) -> None:
        raise raised

    steps, thread = Steps(), worker._thread
    if inside:
        host = worker.ask("ann", "sweep", "sweep", "sweep", steps, SWEEP, always)
        assert steps.started.wait(WAIT)
    job = wait(worker.ask("bob", "summary", "bad", "bad", fail, READOUT, always))
    assert job.state == "failed"
    assert len(str(job.error).splitlines()) == 1
    assert isinstance(raised, MemoryError) or type(raised).__name__ in str(job.error)
    if inside:
        steps.open.set()
        assert wait(host).result == "through"
    assert wait(worker.ask("cy", "next", "next", "next", lambda job: 1)).result == 1
    assert worker._thread is thread
    assert worker.health().ok


def test_a_failure_that_is_kept_holds_nothing_of_the_work() -> None:
    class Weights:
        pass

    held: list[weakref.ref] = []

    def fail() -> None:
        weights = Weights()
        held.append(weakref.ref(weights))
        try:
            raise OSError("disk")
        except OSError as error:
            raise TextError("It broke", "a reason", "Mend it") from error

    try:
        fail()
    except ExplorerError as error:
        kept = explain(error)
    assert str(kept) == "It broke: a reason. Mend it."
    assert held[0]() is None


KILLED = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def kill(worker: Worker) -> None:
    """End the worker's thread where nothing guards it: between two jobs."""
    inner, worker._run_one = worker._run_one, lambda job: sys.exit()  # type: ignore[method-assign]
    worker.ask("eve", "kill", "kill", "kill", lambda job: None)
    worker._thread.join(WAIT)
    worker._run_one = inner  # type: ignore[method-assign]


@KILLED
def test_a_thread_that_ended_is_replaced_and_its_job_has_failed(
    worker: Worker, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = worker._thread
    kill(worker)
    assert not dead.is_alive()
    after = wait(worker.ask("ann", "next", "next", "next", lambda job: 7))
    assert after.result == 7
    assert worker._thread is not dead
    lost = worker.find("kill")
    assert lost is not None
    assert lost.state == "failed"
    assert "the worker ended" in str(lost.error)
    assert "another takes its place" in capsys.readouterr().err


@KILLED
def test_a_look_at_the_health_replaces_a_thread_too(worker: Worker) -> None:
    waiting = Gate()
    kill(worker)
    assert worker.health().ok
    assert worker._thread.is_alive()
    worker.ask("ann", "gate", "gate", "gate", waiting)
    assert waiting.started.wait(WAIT)
    waiting.open.set()


def test_health_tells_what_runs_and_waits_and_when_it_was_heard_from(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (worker.health().ok, worker.health().busy, worker.health().queued) == (True, False, 0)
    hold, gate = threading.Event(), Gate()
    stuck = worker.ask("ann", "stuck", "stuck", "stuck", lambda job: hold.wait(WAIT))
    worker.ask("ann", "gate", "gate", "gate", gate)
    while stuck.state == "queued":
        settle(0.005)
    now = time.monotonic()
    monkeypatch.setattr("explorer.execution.worker.time.monotonic", lambda: now + 600)
    health = worker.health()
    assert (health.ok, health.busy, health.queued) == (True, True, 1)
    assert health.beats_ago == pytest.approx(600, abs=5)
    monkeypatch.setattr("explorer.execution.worker.time.monotonic", lambda: now + 7200)
    assert not worker.health().ok
    monkeypatch.undo()
    hold.set()
    assert gate.started.wait(WAIT)
    assert worker.health().beats_ago < 2
    gate.open.set()


def test_a_worker_that_was_closed_is_not_healthy() -> None:
    worker = Worker()
    worker.close()
    assert not worker.health().ok
    assert not worker._thread.is_alive()


@pytest.mark.parametrize("raised", [RuntimeError("Event loop is closed"), SystemExit(), Panic()])
def test_what_a_listener_raises_is_not_the_works(raised: BaseException) -> None:
    def break_down(job: Job, moved: bool) -> None:
        raise raised

    worker = Worker(changed=break_down)
    job = wait(worker.ask("ann", "work", "work", "work", lambda job: job.progress(1, 2, "half") or 3))
    assert job.result == 3
    queued = worker.ask("ann", "other", "other", "other", lambda job: 1)
    worker.cancel_for("ann", queued)
    assert worker.health().ok
    worker.close()


def test_what_the_worker_asks_its_owners_may_fail() -> None:
    def fail(*_: object) -> bool:
        raise RuntimeError("no runtime")

    worker, steps = Worker(alive=fail), Steps()
    worker.ask("ann", "sweep", "sweep", "sweep", steps, SWEEP, always)
    assert steps.started.wait(WAIT)
    other = worker.ask("bob", "score", "score", "score", lambda job: 1, READOUT, fail)
    steps.open.set()
    assert wait(other).result == 1
    worker.close()


def test_every_job_runs_inside_the_border_and_a_host_gets_back_what_was_before() -> None:
    depth: list[int] = []
    seen: dict[str, int] = {}

    @contextmanager
    def border() -> Iterator[None]:
        depth.append(1)
        yield
        depth.pop()

    worker, steps = Worker(border=border), Steps()
    sweep = worker.ask("ann", "sweep", "sweep", "sweep", steps, SWEEP, always)
    assert steps.started.wait(WAIT)
    wait(worker.ask("bob", "s", "s", "s", lambda job: seen.update(inner=len(depth)), READOUT, always))
    steps.open.set()
    wait(sweep)
    assert seen == {"inner": 2}
    assert depth == []
    worker.close()


class Crowd:
    """Who is there, a clock that can be turned on, and a worker that knows both."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.there, self.later = {"ann", "bob"}, 0.0
        clock = time.monotonic
        monkeypatch.setattr("explorer.execution.owners.time.monotonic", lambda: clock() + self.later)
        monkeypatch.setattr("explorer.execution.worker._BEAT", 0.02)
        self.worker = Worker(self.there.__contains__)


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    made = Crowd(monkeypatch)
    yield made
    made.worker.close()


def test_long_work_outlives_its_browser_for_as_long_as_its_patience(crowd: Crowd) -> None:
    steps = Steps()
    crowd.worker.begin_page("ann", "plans")
    plan = crowd.worker.ask("ann", "plan", "plan", "plan", steps, SWEEP, always, patience=600)
    assert steps.started.wait(WAIT)
    assert not crowd.worker.is_orphan(plan)
    crowd.there.discard("ann")
    crowd.later = 0
    settle(0.2)
    crowd.later = 590
    settle(0.2)
    assert (plan.state, plan.page, crowd.worker.is_orphan(plan)) == ("running", "plans", True)
    crowd.later = 601
    assert wait(plan).state == "cancelled"


def test_a_browser_that_comes_back_finds_its_work_as_it_was(crowd: Crowd) -> None:
    steps = Steps()
    plan = crowd.worker.ask("ann", "plan", "plan", "plan", steps, SWEEP, always, patience=600)
    assert steps.started.wait(WAIT)
    for minutes in (5, 10, 15, 20):  # never away for ten minutes in a row
        crowd.there.discard("ann")
        settle(0.1)
        crowd.there.add("ann")
        settle(0.1)
        crowd.later = 60 * minutes
    assert plan.state == "running"
    again = crowd.worker.ask("ann", "plan", "plan", "plan", steps, SWEEP, always, patience=600)
    assert again is plan
    steps.open.set()
    assert wait(plan).result == "through"


def test_a_new_session_of_the_same_work_joins_it(crowd: Crowd) -> None:
    steps = Steps()
    plan = crowd.worker.ask("ann", "plan", "plan", "plan", steps, SWEEP, always, patience=600)
    assert steps.started.wait(WAIT)
    crowd.there.discard("ann")
    settle(0.1)
    assert crowd.worker.ask("bob", "plan", "plan", "plan", steps, SWEEP, always, patience=600) is plan
    crowd.later = 5000
    settle(0.2)
    assert plan.state == "running"
    assert not crowd.worker.is_orphan(plan)
    steps.open.set()
    assert wait(plan).result == "through"


def test_what_has_no_patience_goes_with_its_owner(crowd: Crowd) -> None:
    steps, gate = Steps(), Gate()
    plan = crowd.worker.ask("ann", "plan", "plan", "plan", steps, IDLE, always, patience=600)
    assert steps.started.wait(WAIT)
    sample = crowd.worker.ask("ann", "sample", "sample", "sample", gate, SWEEP)
    crowd.there.discard("ann")
    assert wait(sample).state == "cancelled"
    assert plan.state == "running"


def test_anybody_may_stop_what_nobody_wants_and_nothing_else(crowd: Crowd) -> None:
    steps = Steps()
    plan = crowd.worker.ask("ann", "plan", "plan", "plan", steps, SWEEP, always, patience=600)
    assert steps.started.wait(WAIT)
    crowd.worker.dismiss(plan)
    settle(0.1)
    assert plan.state == "running"
    crowd.there.discard("ann")
    crowd.worker.dismiss(plan)
    assert wait(plan).state == "cancelled"


def test_work_can_be_asked_for_anew(worker: Worker) -> None:
    runs: list[int] = []
    first = wait(worker.ask("ann", "export", "key", "work", lambda job: runs.append(1), anew=True))
    second = wait(worker.ask("ann", "export", "key", "work", lambda job: runs.append(1), anew=True))
    assert first is not second
    assert worker.ask("bob", "export", "key", "work", lambda job: None) is second
    assert len(runs) == 2
