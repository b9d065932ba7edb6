"""Parts of a page that run again by themselves, and components that are painted again, when a job gets on.

Nothing is run from outside: a bell in each panel asks for its run when the tab's stream says so, as a button would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass

import streamlit as st

from explorer.execution import Job, seeing_files_once
from explorer.holding import holding
from ui import session
from ui.browser import read_scripts
from ui.live.error_panel import draw_broken
from ui.live.tab import PACE, Data, Painting, Tab, Watch
from ui.live.tabs import TABS

_PAGE = ""  # the panel of what is drawn outside of all
PAINTED = 0.1  # seconds between two paintings while a job gets on
_panel: ContextVar[str] = ContextVar("panel", default=_PAGE)
_bell = st.components.v2.component("bell", html="<i hidden></i>", js=read_scripts("tab", "bell"))


@dataclass(frozen=True, kw_only=True)
class OwnTab:
    """The name of a session's tab; None before it has one."""

    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class PageDue:
    """Whether the page is to run, though a panel alone may be about to."""

    due: bool = False


def get_tab_name() -> str:
    """Return the name of this session's tab, by which it also asks for jobs."""
    name = TABS.enter(session.read(OwnTab).name)
    session.change(OwnTab, name=name)
    return name


def _get_tab() -> Tab:
    tab = TABS.find(get_tab_name())
    assert tab is not None
    return tab


def panel(name: str, draw: Callable[[], None]) -> None:
    """Draw a part of the page that runs again by itself whenever a job that it watches gets on.

    What `draw` raises is shown in its place, and the rest of the page goes on.
    """

    @st.fragment
    def run() -> None:
        if session.read(PageDue).due:
            st.rerun()
        numbers = _get_tab().begin_panel(name)
        place = st.container(key=f"bell of {numbers['panel']}")
        try:
            with holding(_panel, name), seeing_files_once():
                try:
                    draw()
                except Exception as error:
                    draw_broken(error, name)
        finally:  # last: of two runs in a hurry the end of the first may be lost, and the browser misses its bell
            with place:
                _hang_bell(numbers)

    run()


def _hang_bell(numbers: dict[str, int]) -> None:
    """Let the browser ask for a run of what is being drawn: a panel, or the page."""
    _bell(key=f"bell {numbers['panel']}", data={"tab": get_tab_name(), **numbers}, on_rung_change=_hear)


def _hear() -> None:
    """Take a bell's word; that what it hangs in runs is all that it asks for."""


def watch(job: Job, partial: bool = False, begins: bool = False, result: bool = True) -> Job:
    """Have the panel that is being drawn run again when a job has ended. Read its state after this call.

    Args:
        partial: for a panel that shows what there is so far: also as the job gets on.
        begins: also when it begins, or goes on.
        result: False where components paint the result: only if there is none.
    """
    if (name := _panel.get()) != _PAGE:
        _get_tab().watch(name, job, Watch(PACE if partial else None, begins, result))
    return job


def paint(key: str, jobs: Iterable[Job] | None, describe: Callable[[], Data], pace: float = PAINTED) -> Data:
    """Return the data of a component that the browser paints again by itself whenever a job gets on.

    Args:
        key: of the component.
        jobs: those that it shows; None for all that there are.
        describe: gives the data, now and later, from any thread: it reads jobs and values, and nothing of the session.
        pace: seconds between two paintings; of some jobs only until one of them ends.
    """
    painting = Painting(_panel.get(), None if jobs is None else frozenset(jobs), describe, pace)
    data = _get_tab().paint(key, painting)
    return {**data, "painting": {"tab": get_tab_name(), "key": key, "serial": painting.serial}}


def rerun_panels(*names: str) -> None:
    """Have other panels of this session run again, once the script that runs now is through."""
    _get_tab().rerun(names, following=_panel.get() == _PAGE)


def open_dialog(*names: str) -> None:
    """Let nothing run by itself but these panels, which a dialog holds, until the page is drawn anew."""
    _get_tab().open_dialog(names)


def rerun_page() -> None:
    """Have the page run, for a callback: what it hears may have come with the bell of a panel that rang just then."""
    session.change(PageDue, due=True)


def begin_page() -> None:
    """Forget the panels of the page before: a page is drawn anew. Call it before anything is drawn."""
    session.change(PageDue, due=False)
    _hang_bell(_get_tab().begin_page())
