"""One worker that owns the device and takes jobs by priority; script threads only ask and look.

Jobs are keyed by content: whoever asks for the same work shares one job. A job belongs to its owners, each of whom
holds it in a named slot; asking for something else in the slot lets go of the older job, and a job that nobody
holds is cancelled. Owners who left hold on for as long as the job's patience. A running job that is open lets more
urgent ones in at each of its steps: they run inside it, on the same thread, and it goes on where it was. An idle one
gives way to those that somebody waits for and that cannot run inside it, and begins again after them.

Whatever a job raises ends that job alone. Should the thread itself end, the next look at the worker starts another.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from typing import Any

from explorer.errors import Cancelled, ExplorerError
from explorer.execution.failures import explain
from explorer.execution.health import Health
from explorer.execution.job import IDLE, SWEEP, Job
from explorer.execution.line import Line
from explorer.execution.owners import Owners
from explorer.progress import hearing_left
from explorer.stopwatch import standing_still, timing

_KEPT = 256  # finished jobs remembered
_REST = 3.0  # seconds with nothing to do until it rests
_BEAT = 1.0  # seconds between two beats while there is nothing to do, and between two looks of those that wait

#: Seconds without a beat after which the worker counts as stuck; some work, as reading weights, has long steps.
_SILENT = {"idle": 30.0, "busy": 1800.0}


class Worker:
    """A thread that runs jobs one at a time.

    Args:
        alive: tells whether an owner is still there; what only owners who left hold is cancelled.
        changed: told a job whenever it gets on, and whether to another state; called from any thread.
        border: put around every job: what the thread was in the midst of is none of the job's business.
        rest: called when there has been nothing to do for a few seconds.
    """

    def __init__(
        self,
        alive: Callable[[str], bool] = lambda owner: True,
        changed: Callable[[Job, bool], None] = lambda job, moved: None,
        border: Callable[[], AbstractContextManager[Any]] = nullcontext,
        rest: Callable[[], None] = lambda: None,
    ) -> None:
        self._owners, self._changed, self._border, self._rest = Owners(alive), changed, border, rest
        self._line = Line()
        self._ready = threading.Condition()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._closing = False
        self._beat = self._reaped = time.monotonic()
        self._thread = self._start()
        atexit.register(self.close)

    def _start(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="worker", daemon=True)
        thread.start()
        return thread

    def health(self) -> Health:
        """Tell how the worker does; a thread that has ended is replaced by this."""
        with self._ready:
            self._revive()
            busy = any(job.state in ("running", "paused") for job in self._jobs.values())
            queued = len(self._line.list())
            ago = time.monotonic() - self._beat
            ok = self._thread.is_alive() and not self._closing and ago < _SILENT["busy" if busy else "idle"]
            return Health(ok, busy, queued, ago)

    def _revive(self) -> None:
        """Replace the thread if it has ended; what it was at has failed."""
        if self._closing or self._thread.is_alive():
            return
        print("The worker's thread has ended; another takes its place.", file=sys.stderr)
        for job in list(self._jobs.values()):
            if job.state in ("running", "paused"):
                job.error = ExplorerError("Something broke", "the worker ended", "Run it again")
                job.state = "failed"
        self._beat = time.monotonic()
        self._thread = self._start()

    def ask(
        self,
        owner: str,
        slot: str,
        key: str,
        title: str,
        work: Callable[[Job], Any],
        priority: int = SWEEP,
        can_preempt: Callable[[], bool] = lambda: False,
        patience: float = 0.0,
        anew: bool = False,
        kind: Hashable = None,
    ) -> Job:
        """Return the job for a key, queued now unless somebody asked before, and hold it in the owner's slot.

        Args:
            patience: seconds that the job goes on after all its owners have left.
            anew: run it even if it has run before.
            kind: of work that takes about as long; None if there is none.
        """
        with self._ready:
            self._revive()
            self._reap()
            if self._owners.declines(owner, key):
                declined = Job(key, title, work)
                declined.cancel()
                return declined
            job = self._jobs.get(key)
            if job is None or job.cancelling or (anew and not job.active):
                job = self._jobs[key] = Job(key, title, work, priority, can_preempt, patience, kind)
                job.page = self._owners.page_of(owner)
                job.on_checkpoint, job.changed = self._run_urgent, self._changed
                self._line.push(job)
                self._ready.notify()
            self._jobs.move_to_end(key)
            self._owners.hold(owner, slot, job)
            while len(self._jobs) > _KEPT and not (oldest := next(iter(self._jobs.values()))).active:
                del self._jobs[oldest.key]
            return job

    def cancel_for(self, owner: str, job: Job) -> None:
        """Let go of a job and do not ask for it again; nobody else holding it, it is cancelled."""
        with self._ready:
            self._owners.cancel_for(owner, job)

    def retry(self, owner: str, job: Job) -> None:
        """Take back `cancel_for`: the owner's next ask runs the job."""
        with self._ready:
            self._owners.retry(owner, job)

    def release(self, owner: str, slots: Iterable[str]) -> None:
        """Let go of what an owner holds in some slots, if anything."""
        with self._ready:
            self._owners.release(owner, slots)

    def begin_page(self, owner: str, page: str = "") -> None:
        """Note from here on which slots an owner's page asks for."""
        with self._ready:
            self._owners.begin_page(owner, page)

    def end_page(self, owner: str, keep: frozenset[str]) -> None:
        """Empty the slots that the owner's page did not ask for, but for those to keep."""
        with self._ready:
            self._owners.end_page(owner, keep)

    def is_orphan(self, job: Job) -> bool:
        """Tell whether a job goes on though all who wanted it have left."""
        with self._ready:
            return self._owners.is_orphan(job)

    def can_dismiss(self, job: Job) -> bool:
        """Tell whether anybody may stop a job: no browser that is there wants it."""
        with self._ready:
            return self._owners.can_dismiss(job)

    def dismiss(self, job: Job) -> None:
        """Stop a job that anybody may stop."""
        with self._ready:
            self._owners.dismiss(job)

    def hold(self, owner: str, slot: str, job: Job) -> Job:
        """Hold a job that was found in the owner's slot, as one that was asked for."""
        with self._ready:
            self._owners.hold(owner, slot, job)
            return job

    def hasten(self, job: Job, priority: int) -> None:
        """Let a job go before others, if it is less urgent so far."""
        with self._ready:
            if job.active and priority < job.priority:
                job.priority = priority
                self._line.arrange()

    @property
    def closing(self) -> bool:
        """Whether it stops, and all jobs with it."""
        return self._closing

    def find(self, key: str) -> Job | None:
        """Return the job of a key, if it is remembered."""
        with self._ready:
            return self._jobs.get(key)

    def _reap(self) -> None:
        self._reaped = time.monotonic()
        self._owners.reap()

    def forget_failed(self) -> None:
        """Let the next ask for whatever failed run it again."""
        with self._ready:
            for job in [job for job in self._jobs.values() if job.state == "failed"]:
                del self._jobs[job.key]

    def waiting(self) -> list[Job]:
        """Return the active jobs: those that run, the innermost first, then the others in the order they will."""
        with self._ready:
            self._revive()
            running = [job for job in self._jobs.values() if job.state in ("running", "paused")]
            running.sort(key=lambda job: job.priority)
            return running + self._line.list()

    def ahead(self, job: Job) -> int:
        """Count the jobs that will have run before a queued one; those it can run inside of are not among them."""
        return len(self._list_ahead(job))

    def seconds_ahead(self, job: Job) -> tuple[float, bool]:
        """Return the seconds that those will take as far as is known, and whether that is known of all of them."""
        return self._line.add_up(self._list_ahead(job))

    def _list_ahead(self, job: Job) -> list[Job]:
        waiting = self.waiting()
        before = waiting[: waiting.index(job)] if job in waiting else []
        return [other for other in before if not (other.preemptible and job.priority < other.priority)]

    def close(self, timeout: float = 10) -> None:
        """Stop the running job and the thread."""
        with self._ready:
            self._closing = True
            for job in self._jobs.values():
                job.cancel()
            self._ready.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._ready:
                begun = self._beat = time.monotonic()
                while not self._line and not self._closing:
                    before, self._beat = self._beat, time.monotonic()
                    if before < begun + _REST <= self._beat:
                        self._rest()
                    self._ready.wait(_BEAT)
                if self._closing:
                    return
                job = self._line.pop()
                if job.state != "queued":
                    continue
                job.state = "running"
            self._run_one(job)

    def _run_urgent(self, running: Job) -> None:
        """Run the jobs that are more urgent than the running one, inside it, if they fit."""
        self._beat = time.monotonic()
        if self._beat > self._reaped + _BEAT:
            with self._ready:
                self._reap()
            self._line.tell()
        if running.preemptible and (urgent := self._take_urgent(running.priority)) is not None:
            with running.paused(), standing_still():
                while urgent is not None:
                    Context().run(self._run_one, urgent)
                    urgent = self._take_urgent(running.priority)
        running.giving_way |= running.preemptible and running.priority == IDLE and self._line.is_awaited()

    def _take_urgent(self, priority: int) -> Job | None:
        if not self._line.holds(priority):
            return None
        with self._ready:
            if (job := self._line.take_fitting(priority)) is not None:
                job.state = "running"
            return job

    def _run_one(self, job: Job) -> None:
        """Run a job to its end. Whatever it raises, were it the end of the interpreter, ends nothing but the job."""
        try:
            with self._border(), hearing_left(job.expect), timing() as watch:
                job.result = job.work(job)
            self._line.note(job.kind, watch.seconds)
            job.state = "done"
        except Cancelled:
            if job.giving_way and not job.cancelling:
                self._put_back(job)
            else:
                job.state = "cancelled"
        except BaseException as error:
            job.error = explain(error)
            job.state = "failed"
        self._line.tell()

    def _put_back(self, job: Job) -> None:
        """Have a job that gave way begin again when it is its turn; what it stored it finds there."""
        with self._ready:
            job.giving_way = job.preemptible = False
            job.state = "queued"
            self._line.push(job)
            self._ready.notify()
