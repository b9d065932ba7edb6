"""Jobs as server-sent events: all at first, then each that got on, at most ten times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from starlette.requests import Request as Asked

from explorer.execution import Job
from explorer.verbs import Requests
from ui.api.job_state import JobState, describe
from ui.live import FEED

PACE = 0.1  # seconds between two looks
MOST = 64  # streams at once
_LOOK, _HEARTBEAT = 1.0, 15.0  # seconds until a silent stream looks whether it is to end, and until it says a word


async def stream_jobs(
    requests: Requests, asked: Asked, stopping: Callable[[], bool], only: Job | None
) -> AsyncIterator[str]:
    """Yield events until whoever asked has gone, the server stops, or the one job that is asked for has ended."""
    told: dict[str, tuple[Job, JobState]] = {}
    loop = asyncio.get_running_loop()
    with FEED.listening() as woken:
        yield "retry: 2000\n\n"
        spoke = loop.time()
        while not stopping() and not await asked.is_disconnected():
            woken.clear()
            listed = {job.key: job for job in ([only] if only else requests.list())}
            seen = {key: job for key, (job, _) in told.items()} | listed  # what is listed no more has ended
            said = {key: (job, describe(job, requests)) for key, job in seen.items()}
            events = [state.model_dump_json() for key, (job, state) in said.items() if told.get(key) != (job, state)]
            told = {key: said[key] for key in listed}
            if events or loop.time() > spoke + _HEARTBEAT:
                spoke = loop.time()
                yield "".join(f"data: {text}\n\n" for text in events) or ": still here\n\n"
            if only and said[only.key][1].state in ("done", "failed", "cancelled"):
                return
            await asyncio.sleep(PACE)
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), _LOOK)


def wants_stream(asked: Asked) -> bool:
    """Tell whether a stream is asked for rather than one look."""
    return "text/event-stream" in asked.headers.get("accept", "") or asked.query_params.get("stream") == "1"
