"""Results that may not be there yet: progress in place, then the result, never a frozen page."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable

import streamlit as st

from explorer.execution import Job
from ui.live.engine import get_engine, get_owner
from ui.live.live_panels import panel, watch
from ui.parts import describe_seconds, escape_markdown

_SECRET = secrets.token_bytes(16)


def ready(job: Job, again: bool = True) -> bool:
    """Tell whether a job's result is there; if not, draw in place how far it is, or why it failed.

    A cancelled job is offered `again`, unless its page has a button of its own for that.
    """
    if job.active:
        panel(f"progress {job.key}", lambda: _draw_progress(job))
        return False
    draw_end(job, again)
    return job.state == "done"


def draw_state(job: Job) -> None:
    """Draw how far a job is, or why it has no result; nothing if it has."""
    if job.active:
        draw_progress(job)
    else:
        draw_end(job)


def draw_end(job: Job, again: bool = True) -> None:
    """Say why a job that is not active has no result."""
    if job.state == "failed":
        st.error(escape_markdown(str(job.error)))
    elif job.state == "cancelled":
        st.caption("Cancelled.")
        if again:
            retry = get_engine().worker.retry
            st.button("Run it again", key=name_widget("again", job), on_click=retry, args=(get_owner(), job))


def name_widget(what: str, job: Job) -> str:
    """Return the key of a job's widget. It reaches the browser: nothing of what the job's own key holds may be read."""
    digest = hashlib.blake2b(str(job.key).encode(errors="backslashreplace"), key=_SECRET, digest_size=12)
    return f"{what} {digest.hexdigest()}"


def _draw_progress(job: Job) -> None:
    if not watch(job).active:
        st.rerun()
    draw_progress(job)


def draw_progress(job: Job) -> None:
    """Draw how far an active job is, and a button that cancels it."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(job.fraction, text=escape_markdown(describe_progress(job)))
        cancel_for = get_engine().worker.cancel_for
        st.button("Cancel", key=name_widget("cancel", job), on_click=cancel_for, args=(get_owner(), job))


def draw_lasting(
    job: Job, name: str, progress: str, draw_done: Callable[[], None], draw_stopped: Callable[[], None]
) -> None:
    """Draw a row for work that takes long: how far it is, and buttons that stop it and have it go on.

    Args:
        job: the work.
        name: what it is, in a few words.
        progress: how far it is, in words.
        draw_done, draw_stopped: draw what can be done when it is over, and when it was stopped.
    """
    engine, owner = get_engine(), get_owner()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.text(name)
        if job.active and not job.cancelling:
            st.button("Stop", key=name_widget("stop", job), on_click=engine.worker.cancel_for, args=(owner, job))
            st.progress(job.fraction, text=escape_markdown(progress))
        elif job.state == "failed":
            st.caption(f":red[{escape_markdown(str(job.error))}]")
        elif job.state == "done":
            draw_done()
        else:
            st.button("Go on", key=name_widget("on", job), on_click=engine.worker.retry, args=(owner, job))
            draw_stopped()


def describe_progress(job: Job) -> str:
    """Say how far an active job is, its place in the queue, and the time it will take."""
    if job.state == "queued":
        ahead = get_engine().worker.ahead(job)
        return f"{job.title}: " + (f"waiting behind {ahead}" if ahead else "next")
    words = f"{job.what}, {job.done:,} of {job.total:,}" if job.total else job.what
    if job.state == "paused":
        return f"{words}, letting others go first"
    left = job.seconds_left
    return words if left is None else f"{words}, {describe_seconds(left)} left"


def describe_queued(job: Job) -> str:
    """Say of anybody's job how far it is, for whom and where it was asked for, and when it will be there."""
    worker, total = get_engine().worker, job.total
    words = [f"{job.title}: {job.done:,} of {total:,}" if total and job.state != "queued" else job.title]
    if worker.is_orphan(job):
        whose = "for a browser that has left"
    elif any(owner == get_owner() for owner, _ in list(job.owners)):
        whose = "for you"
    elif worker.can_dismiss(job):
        whose = "for a program"
    else:
        whose = "for somebody else"
    words.append(f"{whose}, on {job.page.capitalize()}" if job.page else whose)
    left = job.seconds_left
    if job.state == "queued":
        ahead = worker.ahead(job)
        words.append(f"waits behind {ahead}" if ahead else "next")
    elif left is not None:
        words.append(f"{describe_seconds(left)} left")
    if job.state == "paused":
        words.append("lets others go first")
    return ", ".join(words)


def draw_queue(most: int = 6) -> None:
    """Draw what everybody waits for; what no browser that is there waits for can be stopped by anybody."""
    worker = get_engine().worker
    waiting = [job for job in worker.waiting() if watch(job, slowly=True).active]
    more = [f"{len(waiting) - most} more"] if len(waiting) > most else []
    st.caption("Queue: " + escape_markdown("; ".join([*map(describe_queued, waiting[:most]), *more]) or "empty"))
    for job in waiting[:most]:
        if worker.can_dismiss(job):
            st.button(escape_markdown(f"Stop {job.title}"), key=f"stop {job.key}", on_click=worker.dismiss, args=(job,))


def follow(jobs: Iterable[Job], draw: Callable[[], None]) -> None:
    """Draw something, and again while any of the jobs that it shows is active; then run the page once more.

    It takes one place on the page whatever it draws: what stands below it keeps its own, and is not drawn twice.
    """
    shown = list(jobs)
    with st.container():
        if any(job.active for job in shown):
            panel("follow", lambda: _draw_again(shown, draw))
        else:
            draw()


def _draw_again(jobs: list[Job], draw: Callable[[], None]) -> None:
    active = [watch(job).active for job in jobs]
    draw()
    if not any(active):
        st.rerun()
