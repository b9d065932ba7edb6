"""Pushing instead of polling: when a job gets on, the panels that show it run again, in every session that looks.

A panel is a fragment that asked for jobs through `watch`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner_utils.script_run_context import ThreadState, get_script_run_ctx

from explorer.execution import Job
from ui.live.error_panel import draw_broken
from ui.live.streamlit_internals import Session, correct_runs

PACE = 0.2  # seconds between two runs of a panel while a job gets on; its end is shown at once
PATIENCE = 10.0  # seconds that a browser gets to show another page; it needs a tenth
SLOW = 2.0  # seconds between two runs of a panel that need not be up to date
UNHURRIED = 1.0  # seconds between two runs of such a page while a job gets on
_BUSY = 0.02  # seconds until a session that runs its script is asked again


class Watchers:
    """Which panels of which sessions show which jobs. Changes come from any thread; the event loop serves them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: dict[str, dict[str, set[Job]]] = defaultdict(dict)  # session -> panel -> jobs
        self._states: dict[str, dict[str, set[Job]]] = defaultdict(dict)  # the same, for jobs whose states alone count
        self._slowly: dict[str, dict[str, set[Job]]] = defaultdict(dict)  # the same, for panels that take their time
        self._named: dict[tuple[str, str], str] = {}
        self._due: dict[str, set[str]] = defaultdict(set)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ran: dict[str, float] = {}
        self._dialogs: dict[str, frozenset[str]] = {}  # session -> names of the panels in its open dialog
        self._pages: dict[str, tuple[str, float]] = {}  # session -> its page, and when its browser surely shows it
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, session: str, panel: str, name: str) -> None:
        """Forget what a panel showed: it is drawn anew."""
        with self._lock:
            self._named[session, name] = panel
            for table in (self._shown, self._states, self._slowly):
                table[session][panel] = set()
        if self._loop is None:
            found = Session(session)
            self._loop = None if found.gone else found.loop

    def turn(self, session: str, page: str) -> None:
        """Forget a session's panels, for its page is drawn anew, and those of sessions that are gone.

        Streamlit itself keeps the panels of a page that `st.stop` ended.
        """
        active = runtime.get_instance().is_active_session
        with self._lock:
            for each in {session, *(other for other in self._shown if not active(other))}:
                self._drop(each)
        if self._pages.get(session, ("", 0))[0] != page:
            self._pages[session] = page, time.monotonic() + PATIENCE

    def _is_new(self, session: str) -> bool:
        """Tell whether the browser may still have to show the page.

        If it hears at once of another page and of a panel's run, it takes the second for another page and clears all.
        """
        return time.monotonic() < self._pages.get(session, ("", 0))[1]

    def open_dialog(self, session: str, names: Iterable[str]) -> None:
        """Run nothing of a session by itself but these panels of its dialog, until its page is drawn anew.

        While a page runs, the browser takes its dialog away, with what is being typed into it.
        """
        with self._lock:
            self._dialogs[session] = frozenset(names)

    def watch(self, session: str, panel: str, job: Job, states_only: bool, slowly: bool = False) -> None:
        """Run the panel again when the job gets on, or only when its state changes, or at leisure."""
        table = self._slowly if slowly else self._states if states_only else self._shown
        with self._lock:
            table[session].setdefault(panel, set()).add(job)

    def rerun_panels(self, session: str, names: Iterable[str]) -> None:
        """Run panels of a session again, by name; those that its page lacks are left out."""
        with self._lock:
            panels = {self._named[session, name] for name in names if (session, name) in self._named}
        self._call(lambda: self._plan(session, panels, 0))

    def changed(self, job: Job, moved: bool) -> None:
        """Take note that a job got on, perhaps to another state."""
        self._call(lambda: self._spread(job, moved, 0 if moved and not job.active else PACE))

    def _call(self, work: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(work)

    def _spread(self, job: Job, moved: bool, pause: float) -> None:
        tables = (
            (self._shown, pause),
            (self._states, pause if moved else None),
            (self._slowly, pause if moved else SLOW),
        )
        with self._lock:
            lookers = [
                (session, panel, wait)
                for table, wait in tables
                if wait is not None
                for session, panels in table.items()
                for panel, jobs in panels.items()
                if job in jobs
            ]
        for session, panel, wait in lookers:
            self._plan(session, {panel}, wait)

    def _plan(self, session: str, panels: set[str], pause: float) -> None:
        """Run panels after a pause since the session's last run; an earlier time wins."""
        assert self._loop is not None
        self._due[session] |= panels
        if pause and self._is_new(session):
            pause = UNHURRIED
        at = self._loop.time() + max(0.0, self._ran.get(session, 0.0) + pause - time.monotonic()) if pause else 0.0
        waiting = self._timers.get(session)
        if waiting is not None and waiting.when() <= at:
            return
        if waiting is not None:
            waiting.cancel()
        self._timers[session] = self._loop.call_at(max(at, self._loop.time()), self._serve, session)

    def _serve(self, session: str) -> None:
        assert self._loop is not None
        found = Session(session)
        self._timers.pop(session, None)
        if found.gone:
            self._forget(session)
        elif not found.idle:  # what the browser asked for goes first
            self._timers[session] = self._loop.call_later(_BUSY, self._serve, session)
        else:
            self._ran[session] = time.monotonic()
            with self._lock:
                dialog = self._dialogs.get(session)
                shown = set(self._shown.get(session, ()))
                if dialog is not None:
                    shown &= {panel for (who, name), panel in self._named.items() if who == session and name in dialog}
            panels = [panel for panel in self._due.pop(session, set()) if panel in shown]
            if panels and dialog is None and self._is_new(session):
                found.run_page()
            else:
                found.run_panels(panels)

    def _forget(self, session: str) -> None:
        self._due.pop(session, None)
        self._ran.pop(session, None)
        self._pages.pop(session, None)
        with self._lock:
            self._drop(session)

    def _drop(self, session: str) -> None:
        self._dialogs.pop(session, None)
        self._shown.pop(session, None)
        self._states.pop(session, None)
        self._slowly.pop(session, None)
        self._named = {key: panel for key, panel in self._named.items() if key[0] != session}


@st.cache_resource(show_spinner=False)
def get_watchers() -> Watchers:
    """Return the one registry of this server."""
    correct_runs()
    return Watchers()


def panel(name: str, draw: Callable[[], None]) -> None:
    """Draw a part of the page that runs again by itself whenever a job that it watches gets on.

    `draw` draws something every time: of a fragment that draws nothing the browser keeps what was there before. What it
    raises is shown in its place, and the rest of the page goes on.
    """

    @st.fragment
    def run() -> None:
        context, fragment = get_script_run_ctx(), ThreadState.get().fragment_id
        if context is not None and fragment is not None:
            get_watchers().begin(context.session_id, fragment, name)
        try:
            draw()
        except Exception as error:
            draw_broken(error, name)

    run()


def watch(job: Job, states_only: bool = False, slowly: bool = False) -> Job:
    """Have the panel that is being drawn run again when a job gets on. Read the job's state after this call.

    Args:
        states_only: only when its state changes.
        slowly: not more often than every other second, but for its state.
    """
    context, fragment = get_script_run_ctx(), ThreadState.get().fragment_id
    if context is not None and fragment is not None:
        get_watchers().watch(context.session_id, fragment, job, states_only, slowly)
    return job


def rerun_panels(*names: str) -> None:
    """Have other panels of this session run again, once the script that runs now is through."""
    if (context := get_script_run_ctx()) is not None:
        get_watchers().rerun_panels(context.session_id, names)


def open_dialog(*names: str) -> None:
    """Let nothing run by itself but these panels, which a dialog holds, until the page is drawn anew."""
    if (context := get_script_run_ctx()) is not None:
        get_watchers().open_dialog(context.session_id, names)


def forget_panels(page: str) -> None:
    """Forget the panels of the page before: a page is drawn anew."""
    if (context := get_script_run_ctx()) is not None:
        get_watchers().turn(context.session_id, page)
