"""Results that may not be there yet: progress in place, then the result, never a frozen page."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable

import streamlit as st

from explorer.execution import Job, Worker
from ui.browser import read, read_scripts
from ui.live.engine import get_engine, get_owner
from ui.live.panels import PAINTED, paint, panel, watch
from ui.parts import describe_seconds, escape_markdown

_SECRET = secrets.token_bytes(16)

_progress = st.components.v2.component(
    "progress",
    html="""<div class="progress" role="progressbar" aria-label="On its way" aria-valuemin="0" aria-valuemax="100">
<span></span><div><i></i></div></div>""",
    css=read("progress.css"),
    js=read_scripts("tab", "progress"),
    isolate_styles=False,
)


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
        draw_bar(job)
        cancel_for = get_engine().worker.cancel_for
        st.button("Cancel", key=name_widget("cancel", job), on_click=cancel_for, args=(get_owner(), job))


def draw_bar(job: Job, describe: Callable[[Job], str] | None = None) -> None:
    """Draw how far a job is; it is painted again by itself as the job gets on.

    Args:
        describe: says how far it is, from any thread; in the words that fit any job if it is not given.
    """
    describe = describe or describe_progress
    name = name_widget("bar", job)
    queued = watch(job, begins=True).state == "queued"
    shown, pace = (None, 1.0) if queued else ([job], PAINTED)  # others tell how long it waits
    data = paint(name, shown, lambda: {"fraction": job.fraction, "words": describe(job)}, pace)
    _progress(key=name, data=data)


def draw_lasting(
    job: Job, name: str, progress: Callable[[Job], str], draw_done: Callable[[], None], draw_stopped: Callable[[], None]
) -> None:
    """Draw a row for work that takes long: how far it is, and buttons that stop it and have it go on.

    Args:
        job: the work.
        name: what it is, in a few words.
        progress: says how far it is, from any thread.
        draw_done, draw_stopped: draw what can be done when it is over, and when it was stopped.
    """
    engine, owner = get_engine(), get_owner()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.text(name)
        if job.active and not job.cancelling:
            st.button("Stop", key=name_widget("stop", job), on_click=engine.worker.cancel_for, args=(owner, job))
            draw_bar(job, progress)
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
        ahead = describe_ahead(job, get_engine().worker)
        return f"{job.title}: " + (f"waiting {ahead}" if ahead else "next")
    words = f"{job.what}, {job.done:,} of {job.total:,}" if job.total else job.what
    if (left := job.seconds_left) is not None:
        words += f", {describe_seconds(left)} left"
    return f"{words}, letting others go first" if job.state == "paused" else words


def describe_ahead(job: Job, worker: Worker) -> str:
    """Say how many jobs are ahead of a queued one and how long they take; nothing if there are none."""
    if not (ahead := worker.ahead(job)):
        return ""
    seconds, of_all = worker.seconds_ahead(job)
    if not seconds and not of_all:
        return f"behind {ahead}"
    return f"behind {ahead}, {'about' if of_all else 'at least'} {describe_seconds(seconds)}"


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
    active = [watch(job, partial=True).active for job in jobs]
    draw()
    if not any(active):
        st.rerun()
