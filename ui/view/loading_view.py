"""A view that was asked for: it takes the place of the one that is shown when it has loaded, and not before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import streamlit as st

from explorer.errors import DeviceError, ExplorerError, ModelError, TextError
from explorer.execution import Job, View
from ui import session
from ui.live import draw_progress, get_engine, get_owner, panel, watch
from ui.view.session import get_view, notify, set_view, write_url

_FIELDS: Mapping[type[ExplorerError], str] = {ModelError: "model", TextError: "text", DeviceError: "device"}


@dataclass(frozen=True, kw_only=True)
class Loading:
    """The view that was asked for last.

    Args:
        coming: the view, until it has loaded or failed.
        chosen: whether it was asked for where model and text are chosen.
        faults: what was wrong with it, by its field.
        refused: the view that was, to be chosen anew.
        reopen: whether the choice is to be opened on it.
    """

    coming: View | None = None
    chosen: bool = False
    faults: Mapping[str, str] = field(default_factory=dict)
    refused: View | None = None
    reopen: bool = False


def request_view(view: View, choice: bool = False) -> None:
    """Load a view; the one that is there stays until that is done.

    Args:
        choice: whether it was asked for where model and text are chosen; there is said what was wrong with it.
    """
    session.change(Loading, coming=view, chosen=choice, faults={})


def read_faults() -> Mapping[str, str]:
    """Return what was wrong with the view that was chosen last, by its field."""
    return session.read(Loading).faults


def draw_loading_view() -> None:
    """Draw how far the view that was asked for has loaded; show it when it has, or say why it has not."""
    coming = session.read(Loading).coming
    if coming is None:
        return
    job = get_engine().summary(get_owner(), coming, "coming")
    if job.active:
        panel("coming", lambda: _draw_loading(job))
        return
    session.change(Loading, coming=None)
    get_engine().worker.retry(get_owner(), job)  # what was cancelled once may be wanted later
    if job.state == "done":
        coming = _fit(coming, get_view())
        set_view(coming)
        write_url(coming)
        st.rerun()
    if job.error is not None:
        if session.read(Loading).chosen:
            faults = {_find_field(job.error, coming): str(job.error)}
            session.change(Loading, chosen=False, faults=faults, refused=coming, reopen=True)
        else:
            notify([str(job.error)])


def _fit(coming: View, shown: View) -> View:
    """Keep what was set meanwhile where only the calibration is another."""
    if coming.source.pruned != shown.source.pruned:
        return coming
    return replace(shown, calibration=coming.calibration, calibration_tokens=coming.calibration_tokens)


def _find_field(error: ExplorerError, coming: View) -> str:
    field = next((field for kind, field in _FIELDS.items() if isinstance(error, kind)), "model")
    return "calibration" if field == "text" and coming.calibration and coming.calibration in str(error) else field


def _draw_loading(job: Job) -> None:
    if not watch(job).active:
        st.rerun()
    draw_progress(job)
