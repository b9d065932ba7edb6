"""The one engine of this server, and the name under which a session asks it."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from explorer.execution import Engine, Job
from explorer.verbs import Requests
from ui.live.feed import FEED
from ui.live.panels import get_tab_name
from ui.live.tabs import TABS

_made: list[Requests] = []
_making = threading.Lock()


def get_requests() -> Requests:
    """Return what the one engine of this server was asked: the first call, before it listens, makes both."""
    with _making:
        if not _made:
            cache = Path(os.environ.get("EXPLORER_CACHE") or "cache")
            _made.append(Requests(Engine(cache, TABS.is_there, _spread)))
        return _made[0]


def _spread(job: Job, moved: bool) -> None:
    TABS.changed(job, moved)
    FEED.changed()


def get_engine() -> Engine:
    """Return the one engine of this server."""
    return get_requests().engine


def get_owner() -> str:
    """Return the name under which this session asks for jobs."""
    return get_tab_name()
