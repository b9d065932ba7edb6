"""The worker: by priority, shared by content, urgent work inside what is open, cancelled when nobody holds it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest

from explorer.errors import ExplorerError
from explorer.execution.job import IDLE, READOUT, SAMPLE, SWEEP, Job
from explorer.execution.line import Line
from explorer.execution.worker import Worker
from tests.support.gates import WAIT, Gate, Steps, always, wait


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.close()


def test_a_result_arrives_and_is_remembered(worker: Worker) -> None:
    runs: list[int] = []
    job = wait(worker.ask("ann", "score", "key", "work", lambda job: runs.append(1) or 42))
    assert (job.state, job.result) == ("done", 42)
    assert worker.ask("bob", "score", "key", "work", lambda job: runs.append(1)) is job
    assert len(runs) == 1


def test_a_worker_with_nothing_to_do_rests_once_until_it_has_worked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.execution.worker._BEAT", 0.01)
    monkeypatch.setattr("explorer.execution.worker._REST", 0.05)
    rests: list[str] = []
    resting = Worker(rest=lambda: rests.append("rest"))
    time.sleep(0.5)
    wait(resting.ask("ann", "score", "key", "work", lambda job: rests.append("work")))
    time.sleep(0.5)
    resting.close()
    assert rests == ["rest", "work", "rest"]


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
    worker.cancel_for("ann", job)
    steps = gate.steps
    while gate.steps < steps + 3:
        assert job.state == "running"
    worker.cancel_for("bob", job)
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


def test_what_is_released_is_cancelled_and_nothing_else(worker: Worker) -> None:
    hold = threading.Event()
    kept, let_go = (worker.ask("ann", slot, slot, slot, lambda job: hold.wait(5)) for slot in ("kept", "let go"))
    worker.release("ann", ["let go", "never held"])
    assert let_go.state == "cancelled"
    assert kept.active
    hold.set()


def test_a_failure_is_kept_until_it_is_asked_to_be_forgotten(worker: Worker) -> None:
    def fail(job: Job) -> None:
        raise ExplorerError("It broke", "a reason", "Mend it")

    job = wait(worker.ask("ann", "summary", "key", "work", fail))
    assert job.state == "failed"
    assert str(job.error) == "It broke: a reason. Mend it."
    assert worker.ask("ann", "summary", "key", "work", lambda job: 1) is job
    worker.forget_failed()
    assert wait(worker.ask("ann", "summary", "key", "work", lambda job: 1)).result == 1


def test_what_nobody_foresaw_fails_one_job_not_the_worker(worker: Worker, capsys: pytest.CaptureFixture) -> None:
    job = wait(worker.ask("ann", "summary", "key", "work", lambda job: 1 // 0))
    assert "ZeroDivisionError" in str(job.error)
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert wait(worker.ask("ann", "summary", "other", "work", lambda job: 1)).result == 1


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


def test_an_open_job_lets_a_more_urgent_one_in_and_goes_on(worker: Worker) -> None:
    sweep_steps, seen = Steps(), []
    sweep = worker.ask("ann", "sweep", "sweep", "sweep", sweep_steps, SWEEP, always)
    assert sweep_steps.started.wait(WAIT)
    readout = worker.ask("bob", "score", "score", "score", lambda job: seen.append(sweep.state) or 7, READOUT, always)
    assert wait(readout).result == 7
    assert seen == ["paused"]
    assert not sweep_steps.open.is_set()
    sweep_steps.open.set()
    assert wait(sweep).result == "through"


def test_urgent_work_nests_as_deep_as_there_are_priorities(worker: Worker) -> None:
    sweep_steps, sample_steps = Steps(), Steps()
    sweep = worker.ask("ann", "sweep", "sweep", "sweep", sweep_steps, SWEEP, always)
    assert sweep_steps.started.wait(WAIT)
    sample = worker.ask("ann", "sample", "sample", "sample", sample_steps, SAMPLE, always)
    assert sample_steps.started.wait(WAIT)
    readout = wait(worker.ask("ann", "score", "score", "score", lambda job: 1, READOUT, always))
    assert readout.result == 1
    assert [job.title for job in worker.waiting()] == ["sample", "sweep"]
    sample_steps.open.set()
    wait(sample)
    sweep_steps.open.set()
    assert wait(sweep).result == "through"


@pytest.mark.parametrize(("priority", "fits"), [(SWEEP, True), (READOUT, False)])
def test_what_is_not_urgent_or_does_not_fit_waits(worker: Worker, priority: int, fits: bool) -> None:
    steps, order = Steps(), []
    sweep = worker.ask("ann", "sweep", "sweep", "sweep", steps, SWEEP, always)
    assert steps.started.wait(WAIT)
    other = worker.ask("bob", "other", "other", "other", lambda job: order.append(sweep.state), priority, lambda: fits)
    before = steps.steps
    while steps.steps < before + 5:
        assert other.state == "queued"
    steps.open.set()
    wait(other)
    assert order == ["done"]


def test_idle_work_gives_way_to_what_cannot_run_inside_it_and_begins_again(worker: Worker) -> None:
    steps, order = Steps(), []
    idle = worker.ask("ann", "sites", "sites", "sites", lambda job: order.append("idle") or steps(job), IDLE, always)
    assert steps.started.wait(WAIT)
    inside = worker.ask("ann", "score", "score", "score", lambda job: order.append("inside"), READOUT, always)
    assert wait(inside).state == "done"
    assert order == ["idle", "inside"]
    load = worker.ask("ann", "load", "load", "load", lambda job: order.append("load"), READOUT)
    assert wait(load).state == "done"
    steps.open.set()
    assert wait(idle).result == "through"
    assert order == ["idle", "inside", "load", "idle"]


def test_idle_work_that_gave_way_can_be_cancelled(worker: Worker) -> None:
    steps, gate = Steps(), Gate()
    idle = worker.ask("ann", "sites", "sites", "sites", steps, IDLE, always)
    assert steps.started.wait(WAIT)
    load = worker.ask("bob", "load", "load", "load", gate, READOUT)
    assert gate.started.wait(WAIT)
    assert idle.state == "queued"
    worker.cancel_for("ann", idle)
    gate.open.set()
    assert wait(load).state == "done"
    assert wait(idle).state == "cancelled"


def test_what_is_let_in_does_not_see_the_context_of_its_host(worker: Worker) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="clean")
    steps = Steps()

    def host(job: Job) -> str:
        variable.set("the host's")
        return steps(job)

    worker.ask("ann", "sweep", "sweep", "sweep", host, SWEEP, always)
    assert steps.started.wait(WAIT)
    assert (
        wait(worker.ask("ann", "score", "score", "score", lambda job: variable.get(), READOUT, always)).result
        == "clean"
    )


def test_a_failure_inside_an_open_job_is_not_the_hosts(worker: Worker, capsys: pytest.CaptureFixture) -> None:
    steps = Steps()
    sweep = worker.ask("ann", "sweep", "sweep", "sweep", steps, SWEEP, always)
    assert steps.started.wait(WAIT)
    assert wait(worker.ask("ann", "score", "score", "score", lambda job: 1 // 0, READOUT, always)).state == "failed"
    worker.retry("ann", sweep)
    assert sweep.state == "running"
    worker.cancel_for("ann", sweep)
    assert wait(sweep).state == "cancelled"


def test_jobs_ahead_are_those_that_will_have_run_before(worker: Worker) -> None:
    steps = Steps()
    sweep = worker.ask("ann", "sweep", "sweep", "sweep", steps, SWEEP, always)
    assert steps.started.wait(WAIT)
    later = [worker.ask("bob", f"{n}", f"{n}", f"{n}", lambda job: 1, SWEEP, always) for n in range(3)]
    assert [worker.ahead(job) for job in (sweep, *later)] == [0, 1, 2, 3]
    urgent = worker.ask("cy", "score", "score", "score", steps, READOUT, lambda: False)
    assert worker.ahead(urgent) == 0
    assert [worker.ahead(job) for job in later] == [2, 3, 4]


def test_the_wait_is_what_those_ahead_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.execution.line._STORED", 0.0)
    looks, gate = list[Job](), Gate()

    def sweep(job: Job) -> None:
        job.expect(40.0)
        gate.started.set()
        while not gate.open.wait(0.005):
            job.check()

    worker = Worker(changed=lambda job, moved: looks.append(job))
    wait(worker.ask("ann", "before", "before", "before", lambda job: time.sleep(0.05), SAMPLE, kind="sample"))
    running = worker.ask("ann", "sweep", "sweep", "sweep", sweep, SAMPLE, kind="sweep")
    assert gate.started.wait(WAIT)
    kinds = ("sample", "sample", "new", "new")
    asked = [
        worker.ask("bob", f"{n}", f"{n}", f"{n}", lambda job: 1, SAMPLE, kind=kind) for n, kind in enumerate(kinds)
    ]
    seconds, of_all = zip(*map(worker.seconds_ahead, asked), strict=True)
    assert of_all == (True, True, True, False), "nothing is known of the third"
    assert seconds[0] == pytest.approx(40, abs=2)
    assert seconds[3] == pytest.approx(40.1, abs=2)
    assert seconds[3] > seconds[0]
    while asked[3] not in looks:  # told once a second that what is ahead has got on
        time.sleep(0.001)
    assert running.active
    gate.open.set()
    worker.close()


def test_what_is_found_in_the_store_tells_nothing_of_such_work() -> None:
    line, job = Line(), Job("key", "title", lambda job: None, kind="sweep")
    line.note("sweep", 20.0)
    line.note("sweep", 0.001)
    assert line.add_up([job]) == (20.0, True)
    for number in range(300):
        line.note(number, 1.0)
    assert line.add_up([job]) == (0, False), "what was long ago is forgotten"


def test_time_left_follows_the_pace_of_the_step_and_leaves_out_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("explorer.execution.job.time.monotonic", lambda: now)
    job = Job("key", "title", lambda job: None)
    job.state = "running"
    job.progress(0, 10, "first")
    assert job.seconds_left is None
    now += 4
    job.progress(2, 10, "first")
    assert job.seconds_left == pytest.approx(16)
    with job.paused():
        now += 50
    assert job.seconds_left == pytest.approx(16)
    job.progress(0, 4, "second")
    assert job.seconds_left is None
    now += 1
    job.progress(3, 4, "second")
    assert job.seconds_left == pytest.approx(1 / 3)


def test_time_left_is_what_such_work_took_and_then_its_own_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("explorer.execution.job.time.monotonic", lambda: now[0])
    job = Job("key", "title", lambda job: None)
    job.progress(0, 8, "scoring")
    job.expect(40.0)
    assert job.seconds_left == pytest.approx(40)
    now[0] = 110.0
    assert job.seconds_left == pytest.approx(30), "nothing is done yet"
    job.progress(2, 8, "scoring")
    assert job.seconds_left == pytest.approx(30)
    now[0] = 120.0
    job.progress(6, 8, "scoring")
    assert job.seconds_left == pytest.approx(0.25 * 20 + 0.75 * 20 / 3)
    with job.paused():
        now[0] = 150.0
    assert job.seconds_left == pytest.approx(0.25 * 20 + 0.75 * 20 / 3)
    now[0] = 1000.0
    job.progress(6, 9, "another step")
    assert job.seconds_left is None
