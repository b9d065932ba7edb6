"""A job -> what is told of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from explorer.execution import Job
from explorer.verbs import Requests


class JobState(BaseModel):
    """A job, and how far it is."""

    key: str
    title: str = Field(description="What it is, in words.")
    owner: Literal["browser", "api"] = Field(description="Who asked for it.")
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled"]
    done: int = Field(description="Of total, in the step that runs now.")
    total: int
    what: str = Field(description="The step that runs now.")
    left: float | None = Field(description="Seconds that the step will take; null where that is not known.")
    stoppable: bool = Field(description="Whether DELETE stops it: no browser waits for it.")
    error: str | None = Field(description="Why it failed, in a line.")


def describe(job: Job, requests: Requests) -> JobState:
    """Describe anybody's job."""
    left = job.seconds_left
    return JobState(
        key=job.key,
        title=job.title,
        owner=requests.tell_owner(job),  # type: ignore[arg-type]  # one of the two
        state=job.state,  # type: ignore[arg-type]  # one of these words
        done=job.done,
        total=job.total,
        what=job.what,
        left=None if left is None else round(left, 1),
        stoppable=requests.engine.worker.can_dismiss(job),
        error=None if job.error is None else str(job.error),
    )
