"""Wakes whoever listens to the jobs of this server, from any thread, on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Feed:
    """Who listens; each has an event that is set when some job got on."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._told = False

    def __len__(self) -> int:
        return len(self._listeners)

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """Give an event of the running loop that is set whenever a job gets on."""
        woken = asyncio.Event()
        self._listeners[woken] = asyncio.get_running_loop()
        try:
            yield woken
        finally:
            del self._listeners[woken]

    def changed(self) -> None:
        """Wake all who listen; a thread that calls often has them woken once a turn of the loop."""
        listeners = list(self._listeners.items())
        if not listeners or self._told:
            return
        self._told = True
        for woken, loop in listeners:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._wake, woken)

    def _wake(self, woken: asyncio.Event) -> None:
        self._told = False
        woken.set()


#: The one feed of this server.
FEED = Feed()
