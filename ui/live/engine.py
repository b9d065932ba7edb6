"""The one engine of this server, and the name under which a session asks it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from explorer.execution import Engine
from ui.live.live_panels import get_watchers

_made: list[Engine] = []
_making = threading.Lock()


def get_engine() -> Engine:
    """Return the one engine of this server: the first call, before it listens, makes it."""
    with _making:
        if not _made:
            cache = Path(os.environ.get("EXPLORER_CACHE") or "cache")
            _made.append(Engine(cache, runtime.get_instance().is_active_session, get_watchers().changed))
        return _made[0]


def get_owner() -> str:
    """Return the name under which this session asks for jobs."""
    context = get_script_run_ctx()
    return context.session_id if context else "no session"
