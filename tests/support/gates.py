"""Work that stands still until a test lets it go on."""

from __future__ import annotations

import threading

from explorer.execution.job import Job

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


def wait(job: Job) -> Job:
    for _ in range(WAIT * 200):
        if not job.active:
            return job
        threading.Event().wait(0.005)
    raise AssertionError(f"{job.title} is still {job.state}")


class Steps(Gate):
    """Work that is open to others at each step."""

    def __call__(self, job: Job) -> str:
        job.preemptible = True
        return super().__call__(job)


def always() -> bool:
    return True
