"""The worker: one job at a time, by priority, shared by content, cancelled when nobody holds it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from explorer.errors import ExplorerError
from ui.jobs import READOUT, SWEEP, Job, Worker

WAIT = 10


class Gate:
    """Work that starts, and goes on when it is let."""

    def __init__(self) -> None:
        self.started, self.open = threading.Event(), threading.Event()
        self.steps = 0

    def __call__(self, job: Job) -> str:
        self.started.set()
        while not self.open.wait(0.005):
            self.steps += 1
            job.progress(self.steps, 100, "waiting")
        return "through"


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def wait(job: Job) -> Job:
    for _ in range(WAIT * 200):
        if not job.active:
            return job
        threading.Event().wait(0.005)
    raise AssertionError(f"{job.title} is still {job.state}")


def test_a_result_arrives_and_is_remembered(worker: Worker) -> None:
    runs: list[int] = []
    job = wait(worker.ask("ann", "score", "key", "work", lambda job: runs.append(1) or 42))
    assert (job.state, job.result) == ("done", 42)
    assert worker.ask("bob", "score", "key", "work", lambda job: runs.append(1)) is job
    assert len(runs) == 1


def test_smaller_priority_goes_first(worker: Worker) -> None:
    gate, order = Gate(), []
    worker.ask("ann", "gate", "gate", "gate", gate)
    assert gate.started.wait(WAIT)
    sweep = worker.ask("ann", "sweep", "sweep", "sweep", lambda job: order.append("sweep"), SWEEP)
    readout = worker.ask("bob", "score", "score", "score", lambda job: order.append("readout"), READOUT)
    assert [job.title for job in worker.waiting()] == ["gate", "score", "sweep"]
    gate.open.set()
    wait(sweep)
    wait(readout)
    assert order == ["readout", "sweep"]


def test_a_newer_ask_in_a_slot_replaces_the_older(worker: Worker) -> None:
    gate = Gate()
    old = worker.ask("ann", "score", "old", "old", gate)
    assert gate.started.wait(WAIT)
    new = worker.ask("ann", "score", "new", "new", lambda job: "new")
    assert wait(old).state == "cancelled"
    assert wait(new).result == "new"


def test_a_shared_job_goes_on_until_nobody_holds_it(worker: Worker) -> None:
    gate = Gate()
    job = worker.ask("ann", "score", "shared", "shared", gate)
    assert worker.ask("bob", "score", "shared", "shared", gate) is job
    assert gate.started.wait(WAIT)
    worker.decline("ann", job)
    steps = gate.steps
    while gate.steps < steps + 3:
        assert job.state == "running"
    worker.decline("bob", job)
    assert wait(job).state == "cancelled"
    assert worker.ask("ann", "score", "shared", "shared", lambda job: "again").state == "cancelled"
    worker.retry("ann", job)
    again = worker.ask("ann", "score", "shared", "shared", lambda job: "again")
    assert wait(again).result == "again"


def test_what_is_asked_for_again_before_it_has_stopped_runs_again(worker: Worker) -> None:
    started, go_on = threading.Event(), threading.Event()

    def stubborn(job: Job) -> str:
        started.set()
        go_on.wait(WAIT)
        job.check()
        return "once"

    first = worker.ask("ann", "score", "there and back", "stubborn", stubborn)
    assert started.wait(WAIT)
    worker.ask("ann", "score", "elsewhere", "other", lambda job: 1)
    back = worker.ask("ann", "score", "there and back", "stubborn", stubborn)
    go_on.set()
    assert wait(back).result == "once"
    assert first.state == "cancelled"


def test_a_page_lets_go_of_what_it_did_not_ask_for(worker: Worker) -> None:
    gate = Gate()
    sample = worker.ask("ann", "sample", "sample", "sample", gate)
    export = worker.ask("ann", "export", "export", "export", lambda job: "written")
    worker.begin_page("ann")
    score = worker.ask("ann", "score", "score", "score", lambda job: 1)
    worker.end_page("ann", frozenset({"export"}))
    assert wait(sample).state == "cancelled"
    assert wait(export).result == "written"
    assert wait(score).result == 1


def test_a_failure_is_kept_until_it_is_asked_to_be_forgotten(worker: Worker) -> None:
    def fail(job: Job) -> None:
        raise ExplorerError("It broke", "a reason", "Mend it")

    job = wait(worker.ask("ann", "facts", "key", "work", fail))
    assert job.state == "failed"
    assert str(job.error) == "It broke: a reason. Mend it."
    assert worker.ask("ann", "facts", "key", "work", lambda job: 1) is job
    worker.forget_failed()
    assert wait(worker.ask("ann", "facts", "key", "work", lambda job: 1)).result == 1


def test_what_nobody_foresaw_fails_one_job_not_the_worker(worker: Worker, capsys: pytest.CaptureFixture) -> None:
    job = wait(worker.ask("ann", "facts", "key", "work", lambda job: 1 // 0))
    assert "ZeroDivisionError" in str(job.error)
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert wait(worker.ask("ann", "facts", "other", "work", lambda job: 1)).result == 1


def test_what_only_sessions_that_left_hold_is_cancelled() -> None:
    there, gate = {"ann", "bob"}, Gate()
    worker = Worker(there.__contains__)
    running = worker.ask("ann", "score", "running", "running", gate)
    queued = worker.ask("ann", "sweep", "queued", "queued", gate)
    assert gate.started.wait(WAIT)
    there.discard("ann")
    assert wait(running).state == "cancelled"
    assert wait(queued).state == "cancelled"
    assert wait(worker.ask("bob", "score", "next", "next", lambda job: 1)).result == 1
    worker.close()


def test_closing_stops_the_running_job() -> None:
    worker, gate = Worker(), Gate()
    running = worker.ask("ann", "gate", "gate", "gate", gate)
    queued = worker.ask("ann", "next", "next", "next", gate)
    assert gate.started.wait(WAIT)
    worker.close()
    assert (running.state, queued.state) == ("cancelled", "cancelled")
    assert not worker._thread.is_alive()
