"""The jobs that wait, the most urgent first, and how long work of their kinds takes.

Nothing here locks; the worker does where it changes something. What is asked at every step is seen without its lock.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Hashable, Iterable

from explorer.execution.job import SWEEP, Job

_KINDS = 256  # remembered
_STORED = 0.1  # seconds within which what was stored is found: that tells nothing of such work

_Entry = tuple[int, int, Job]


class Line:
    """Queued jobs, by priority and then in the order in which they came."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self._order = itertools.count()
        self._took: OrderedDict[Hashable, float] = OrderedDict()  # seconds of the last work of a kind

    def __bool__(self) -> bool:
        return bool(self._entries)

    def push(self, job: Job) -> None:
        """Put a job behind those that are as urgent."""
        heapq.heappush(self._entries, (job.priority, next(self._order), job))

    def pop(self) -> Job:
        """Take the first one, which may have been cancelled."""
        return heapq.heappop(self._entries)[2]

    def list(self) -> list[Job]:
        """List the jobs in the order in which they will run."""
        return [job for _, _, job in sorted(self._entries, key=_place) if job.state == "queued"]

    def tell(self) -> None:
        """Have those look again who wait: what is ahead of them has got on."""
        for job in self.list():
            job.tell(False)

    def arrange(self) -> None:
        """Take note that priorities have changed."""
        self._entries = [(job.priority, order, job) for _, order, job in self._entries]
        heapq.heapify(self._entries)

    def holds(self, priority: int) -> bool:
        """Tell whether there may be a more urgent one."""
        return bool(self._entries) and self._entries[0][0] < priority

    def take_fitting(self, priority: int) -> Job | None:
        """Take the first one that is more urgent and could run inside another job."""
        self._entries = sorted((entry for entry in self._entries if entry[2].state == "queued"), key=_place)
        for place, (_, _, job) in enumerate(self._entries):
            if job.priority < priority and job.fits:
                del self._entries[place]  # what is left is sorted, so still a heap
                return job
        return None

    def is_awaited(self) -> bool:
        """Tell whether there is one that somebody waits for and that can run inside of nothing."""
        return self.holds(SWEEP) and any(not job.fits for job in self.list() if job.priority < SWEEP)

    def note(self, kind: Hashable, seconds: float) -> None:
        """Note what work of a kind took; None is no kind."""
        if kind is None or seconds < _STORED:
            return
        self._took[kind] = seconds
        self._took.move_to_end(kind)
        while len(self._took) > _KINDS:
            self._took.popitem(last=False)

    def add_up(self, jobs: Iterable[Job]) -> tuple[float, bool]:
        """Return the seconds that jobs will take, and whether that is known of all of them.

        One that runs knows it itself; of one that is queued it is what the last of its kind took.
        """
        found = [self._took.get(job.kind) if job.state == "queued" else job.seconds_left for job in jobs]
        known = [seconds for seconds in found if seconds is not None]
        return sum(known), len(known) == len(found)


def _place(entry: _Entry) -> tuple[int, int]:
    return entry[:2]
