"""Work: what everybody waits for, and which of it anybody may stop."""

from __future__ import annotations

import streamlit as st

from explorer.execution import Job, Worker
from ui.browser import read, read_scripts
from ui.live.engine import get_engine, get_owner
from ui.live.panels import paint
from ui.live.tab import Data
from ui.live.waiting import describe_ahead, name_widget
from ui.parts import describe_seconds

_PACE = 1.0  # seconds between two looks at it while nothing begins or ends

_work = st.components.v2.component(
    "work",
    html="""<div class="work" role="status">
<div class="lines"></div><div class="stops"></div><div class="held"></div></div>""",
    css=read("work.css"),
    js=read_scripts("tab", "work"),
    isolate_styles=False,
)


def draw_work() -> None:
    """Draw what everybody waits for; what no browser that is there waits for can be stopped by anybody."""
    worker, owner = get_engine().worker, get_owner()

    def stop() -> None:
        asked = st.session_state["work_list"]["stop"]
        for job in worker.waiting():
            if name_widget("stop", job) == asked:
                worker.dismiss(job)

    data = paint("work", None, lambda: describe_work(worker, owner), _PACE)
    _work(key="work_list", data=data, on_stop_change=stop)


def describe_work(worker: Worker, owner: str, most: int = 6) -> Data:
    """Describe what everybody waits for, the first few one by one, and what of it anybody may stop."""
    waiting = [job for job in worker.waiting() if job.active]
    more = [f"{len(waiting) - most} more"] if len(waiting) > most else []
    lines = [*(describe_waiting(job, worker, owner) for job in waiting[:most]), *more]
    stops = [(name_widget("stop", job), f"Stop {job.title}") for job in waiting[:most] if worker.can_dismiss(job)]
    return {"words": "Work: " + ("; ".join(lines) or "none"), "stops": stops}


def describe_waiting(job: Job, worker: Worker, owner: str) -> str:
    """Say of anybody's job how far it is, for whom and where it was asked for, and when it will be there."""
    total = job.total
    words = [f"{job.title}: {job.done:,} of {total:,}" if total and job.state != "queued" else job.title]
    if worker.is_orphan(job):
        whose = "for a browser that has left"
    elif any(holder == owner for holder, _ in list(job.owners)):
        whose = "for you"
    elif worker.can_dismiss(job):
        whose = "for a program"
    else:
        whose = "for somebody else"
    words.append(f"{whose}, on {job.page.capitalize()}" if job.page else whose)
    left = job.seconds_left
    if job.state == "queued":
        ahead = describe_ahead(job, worker)
        words.append(f"waits {ahead}" if ahead else "next")
    elif left is not None:
        words.append(f"{describe_seconds(left)} left")
    if job.state == "paused":
        words.append("lets others go first")
    return ", ".join(words)
