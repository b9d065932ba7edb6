"""The one engine of this server, and the name under which a session asks it."""

from __future__ import annotations

import os
from pathlib import Path

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.execution import Engine
from ui.live.live_panels import get_watchers
from ui.serving import report_by


@st.cache_resource(show_spinner=False)
def get_engine() -> Engine:
    """Return the one engine of this server."""
    cache = Path(os.environ.get("EXPLORER_CACHE") or "cache")
    engine = Engine(cache, runtime.get_instance().is_active_session, get_watchers().changed)
    report_by(engine.health)
    return engine


def get_owner() -> str:
    """Return the name under which this session asks for jobs."""
    context = get_script_run_ctx()
    return context.session_id if context else "no session"
