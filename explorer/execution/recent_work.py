"""RecentWork: what was begun lately on a model, text and mask, so that a browser that was reloaded finds it again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from explorer.execution.job import Job

_MOST, _MOST_OF_ONE = 64, 16


class RecentWork:
    """Jobs in the order in which they were begun, by what they are about. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: OrderedDict[Hashable, OrderedDict[Any, Job]] = OrderedDict()

    def note(self, about: Hashable, asked: Hashable, job: Job) -> None:
        """Take note of a job, by what it is about and what exactly was asked."""
        with self._lock:
            found = self._begun.setdefault(about, OrderedDict())
            if found.get(asked) is not job:
                found.pop(asked, None)
                found[asked] = job
            self._begun.move_to_end(about)
            for table, most in ((found, _MOST_OF_ONE), (self._begun, _MOST)):
                while len(table) > most:
                    table.popitem(last=False)

    def list(self, about: Hashable) -> list[tuple[Any, Job]]:
        """List what was asked and its job, the last one at the end."""
        with self._lock:
            return list(self._begun.get(about, OrderedDict()).items())
