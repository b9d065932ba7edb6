"""A view that was asked for: it takes the place of the one that is shown when it has loaded, and not before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from explorer.errors import DeviceError, ExplorerError, ModelError, TextError
from explorer.execution import Job, View
from ui.live import draw_progress, get_engine, get_owner, panel, watch
from ui.parts import escape_markdown
from ui.view.session import get_view, notify, set_view, write_url

_FIELDS: Mapping[type[ExplorerError], str] = {ModelError: "model", TextError: "text", DeviceError: "device"}


def request_view(view: View) -> None:
    """Load a view; the one that is there stays until that is done."""
    st.session_state.coming = view
    st.session_state.faults = {}


def refuse(faults: Mapping[str, ExplorerError]) -> None:
    """Have it said under the fields of the form what is wrong with what was asked for."""
    st.session_state.coming = None
    st.session_state.faults = {field: str(error) for field, error in faults.items()}


def draw_fault(*fields: str) -> None:
    """Draw what is wrong with a field of the form, if anything is."""
    for field in fields:
        if said := st.session_state.get("faults", {}).get(field):
            st.error(escape_markdown(said))


def draw_loading_view(page: str) -> None:
    """Draw how far the view that was asked for has loaded; show it when it has, or say why it has not."""
    coming: View | None = st.session_state.get("coming")
    if coming is None:
        return
    job = get_engine().summary(get_owner(), coming, "coming")
    if job.active:
        panel("coming", lambda: _draw_loading(job))
        return
    st.session_state.coming = None
    get_engine().worker.retry(get_owner(), job)  # what was cancelled once may be wanted later
    if job.state == "done":
        coming = _fit(coming, get_view())
        set_view(coming)
        write_url(coming)
        st.rerun()
    if job.error is not None:
        refuse({_find_field(job.error): job.error})
        if page != "overview":
            notify([str(job.error)])


def _fit(coming: View, shown: View) -> View:
    """Keep what was set meanwhile where only the calibration is another."""
    if coming.source.pruned != shown.source.pruned:
        return coming
    return replace(shown, calibration=coming.calibration, calibration_tokens=coming.calibration_tokens)


def _find_field(error: ExplorerError) -> str:
    return next((field for kind, field in _FIELDS.items() if isinstance(error, kind)), "model")


def _draw_loading(job: Job) -> None:
    if not watch(job).active:
        st.rerun()
    draw_progress(job)
