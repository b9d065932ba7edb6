"""One worker that owns the device and takes jobs by priority; script threads only ask and look.

Jobs are keyed by content: whoever asks for the same work shares one job. A job belongs to its owners, each of whom
holds it in a named slot; asking for something else in the slot lets go of the older job, and a job that nobody
holds is cancelled. A running job that is open lets more urgent ones in at each of its steps: they run inside it, on
the same thread, and it goes on where it was.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

from explorer.errors import Cancelled, ExplorerError
from ui.jobs import SWEEP, Job

_KEPT = 256  # finished jobs remembered


class Worker:
    """A thread that runs jobs one at a time.

    Args:
        alive: tells whether an owner is still there; what only owners who left hold is cancelled.
        changed: told a job whenever it gets on, and whether to another state; called from any thread.
    """

    def __init__(
        self,
        alive: Callable[[str], bool] = lambda owner: True,
        changed: Callable[[Job, bool], None] = lambda job, moved: None,
    ) -> None:
        self._alive, self._changed = alive, changed
        self._declined: set[tuple[str, str]] = set()
        self._queue: list[tuple[int, int, Job]] = []
        self._order = itertools.count()
        self._ready = threading.Condition()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._slots: dict[tuple[str, str], Job] = {}
        self._asked: dict[str, set[str]] = {}
        self._closing = False
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def ask(
        self,
        owner: str,
        slot: str,
        key: str,
        title: str,
        work: Callable[[Job], Any],
        priority: int = SWEEP,
        fits: Callable[[], bool] = lambda: False,
    ) -> Job:
        """Return the job for a key, queued now unless somebody asked before, and hold it in the owner's slot."""
        with self._ready:
            self._reap()
            if (owner, key) in self._declined:
                declined = Job(key, title, work)
                declined.cancel()
                return declined
            job = self._jobs.get(key)
            if job is None or job.doomed:
                job = self._jobs[key] = Job(key, title, work, priority, fits)
                job.between, job.changed = self._run_urgent, self._changed
                heapq.heappush(self._queue, (priority, next(self._order), job))
                self._ready.notify()
            self._jobs.move_to_end(key)
            self._asked.setdefault(owner, set()).add(slot)
            self._hold((owner, slot), job)
            while len(self._jobs) > _KEPT and not (oldest := next(iter(self._jobs.values()))).active:
                del self._jobs[oldest.key]
            return job

    def _hold(self, holder: tuple[str, str], job: Job) -> None:
        before = self._slots.get(holder)
        if before is job:
            return
        if before is not None:
            self._drop(holder, before)
        self._slots[holder] = job
        job.holders.add(holder)

    def _drop(self, holder: tuple[str, str], job: Job) -> None:
        job.holders.discard(holder)
        if job.active and not job.holders:
            job.cancel()

    def decline(self, owner: str, job: Job) -> None:
        """Let go of a job and do not ask for it again; nobody else holding it, it is cancelled."""
        with self._ready:
            self._declined.add((owner, job.key))
            self._empty([holder for holder, held in self._slots.items() if held is job and holder[0] == owner])

    def retry(self, owner: str, job: Job) -> None:
        """Take back `decline`: the owner's next ask runs the job."""
        with self._ready:
            self._declined.discard((owner, job.key))

    def _reap(self) -> None:
        """Let go of what owners who left were holding."""
        gone = {owner for owner, _ in self._slots if not self._alive(owner)}
        self._empty([holder for holder in self._slots if holder[0] in gone])
        self._declined = {entry for entry in self._declined if entry[0] not in gone}

    def release(self, owner: str, slots: Iterable[str]) -> None:
        """Let go of what an owner holds in some slots, if anything."""
        with self._ready:
            self._empty([(owner, slot) for slot in slots if (owner, slot) in self._slots])

    def begin_page(self, owner: str) -> None:
        """Note from here on which slots an owner's page asks for."""
        with self._ready:
            self._asked[owner] = set()

    def end_page(self, owner: str, keep: frozenset[str]) -> None:
        """Empty the slots that the owner's page did not ask for, but for those to keep."""
        with self._ready:
            wanted = self._asked.pop(owner, set()) | keep
            self._empty([holder for holder in self._slots if holder[0] == owner and holder[1] not in wanted])

    def _empty(self, holders: list[tuple[str, str]]) -> None:
        for holder in holders:
            self._drop(holder, self._slots.pop(holder))

    def forget_failed(self) -> None:
        """Let the next ask for whatever failed run it again."""
        with self._ready:
            for job in [job for job in self._jobs.values() if job.state == "failed"]:
                del self._jobs[job.key]

    def waiting(self) -> list[Job]:
        """Return the active jobs: those that run, the innermost first, then the others in the order they will."""
        with self._ready:
            running = [job for job in self._jobs.values() if job.state in ("running", "paused")]
            running.sort(key=lambda job: job.priority)
            return running + [job for _, _, job in sorted(self._queue, key=_place) if job.state == "queued"]

    def ahead(self, job: Job) -> int:
        """Count the jobs that will have run before a queued one; those it can run inside of are not among them."""
        waiting = self.waiting()
        before = waiting[: waiting.index(job)] if job in waiting else []
        return sum(not (other.open and job.priority < other.priority) for other in before)

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
                while not self._queue and not self._closing:
                    self._ready.wait()
                if self._closing:
                    return
                _, _, job = heapq.heappop(self._queue)
                if job.state != "queued":
                    continue
                job.state = "running"
            self._run_one(job)

    def _run_urgent(self, running: Job) -> None:
        """Run the jobs that are more urgent than the running one, inside it, if they fit."""
        if time.monotonic() > self._beaten + 1:
            self._beaten = time.monotonic()
            with self._ready:
                self._reap()
        while running.open and (urgent := self._take_urgent(running.priority)) is not None:
            with running.paused():
                Context().run(self._run_one, urgent)

    def _take_urgent(self, priority: int) -> Job | None:
        if not self._queue or self._queue[0][0] >= priority:  # seen without the lock: this is asked at every step
            return None
        with self._ready:
            self._queue = sorted((entry for entry in self._queue if entry[2].state == "queued"), key=_place)
            for place, (_, _, job) in enumerate(self._queue):
                if job.priority < priority and job.fits():
                    del self._queue[place]  # what is left is sorted, so still a heap
                    job.state = "running"
                    return job
        return None

    def _run_one(self, job: Job) -> None:
        try:
            job.result = job.work(job)
            job.state = "done"
        except Cancelled:
            job.state = "cancelled"
        except ExplorerError as error:
            job.error = error
            job.state = "failed"
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            job.error = ExplorerError(
                "Something broke", f"{type(error).__name__}: {error}", "The server's log has more"
            )
            job.state = "failed"


def _place(entry: tuple[int, int, Job]) -> tuple[int, int]:
    return entry[:2]
