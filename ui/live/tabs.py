"""The tabs that look at this server, each by a name that nobody can guess."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from explorer.execution import Job
from ui.live.tab import Tab

_FORGOTTEN = 3600.0  # seconds without a word after which a tab is forgotten


class Tabs:
    """All tabs.

    Args:
        make: makes one.
    """

    def __init__(self, make: Callable[[], Tab] = Tab) -> None:
        self._make = make
        self._tabs: dict[str, Tab] = {}

    def enter(self, name: str | None = None) -> str:
        """Note that a tab was heard of, a new one if it has no name yet; return its name."""
        if name is None:
            name = secrets.token_urlsafe(16)
            for other, tab in list(self._tabs.items()):
                if not tab.there and tab.silent > _FORGOTTEN:
                    self._tabs.pop(other, None)
        self._tabs.setdefault(name, self._make()).hear()
        return name

    def find(self, name: str) -> Tab | None:
        """Return a tab by its name."""
        return self._tabs.get(name)

    def is_there(self, name: str) -> bool:
        """Tell whether somebody looks at a tab, or did a moment ago."""
        tab = self._tabs.get(name)
        return tab is not None and tab.there

    def changed(self, job: Job, moved: bool) -> None:
        """Tell all tabs that a job got on, perhaps to another state."""
        for tab in list(self._tabs.values()):
            tab.changed(job, moved)


#: The tabs of this server.
TABS = Tabs()
