"""The kinds of requests that pages alone send: to import this offers them all."""

from __future__ import annotations

from explorer.execution import healing, measuring, outlook, readouts, sparsifying
from explorer.execution.kinds import KINDS

_ROOMS = {each.__name__ for each in (healing, measuring, outlook, readouts, sparsifying)}

PAGE_KINDS = frozenset(name for name, kind in KINDS.items() if kind.work.__module__ in _ROOMS)
