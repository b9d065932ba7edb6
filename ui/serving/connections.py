"""How many may be connected: few for one address, fewer than the process has descriptors, silent ones last."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import time
from collections.abc import Callable

#: Descriptors of a session with its stream; of the 128 that Streamlit keeps of browsers that left; of all else.
_EACH, _LEFT, _REST = 5, 128 * 3, 128

_LOG = logging.getLogger("ui.serving")


def raise_limit() -> int:
    """Let this process open as many files as it may; return how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 2**16 if hard == resource.RLIM_INFINITY else min(hard, 2**16)
    if soft == resource.RLIM_INFINITY or soft >= most:
        return most if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


class Connection:
    """One websocket: whose it is, whether anything was heard of it, and whether it has to go."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.heard = False
        self.shut = asyncio.Event()


class Connections:
    """The open websockets. Only on the event loop.

    Args:
        each: that one address may have.
        most: that all may have together.
        patience: seconds in which the first message is expected; a browser takes a fraction of one.
    """

    def __init__(self, each: int, most: int, patience: float) -> None:
        self.each, self.most, self.patience = each, most, patience
        self._open: list[Connection] = []
        self.left = 0  # how many ever left

    @classmethod
    def of(cls, descriptors: int) -> Connections:
        """Make it for a number of descriptors; EXPLORER_CONNECTIONS says how many one address may have."""
        asked = os.environ.get("EXPLORER_CONNECTIONS", "")
        most = max(8, (descriptors - _LEFT - _REST) // _EACH)
        return cls(min(int(asked) if asked.isdecimal() and int(asked) else 32, most), most, patience=15.0)

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, address: str) -> Connection | None:
        """Take a connection in. If there is no room, one that never said a word has to go for it; else None."""
        own = [each for each in self._open if each.address == address]
        if len(own) >= self.each or len(self._open) >= self.most:
            silent = next((each for each in (own if len(own) >= self.each else self._open) if not each.heard), None)
            if silent is None:
                return None
            silent.shut.set()
            self.leave(silent)
        entered = Connection(address)
        self._open.append(entered)
        return entered

    def leave(self, connection: Connection) -> None:
        """Note that a connection is closed."""
        if connection in self._open:
            self._open.remove(connection)
            self.left += 1

    async def tidy(self, pause: float = 30.0) -> None:
        """Free what the sessions of those who left held, for ever: they refer to themselves.

        The collector by itself would get to them late, for it counts objects, not the three descriptors of each.
        """
        seen = 0
        while True:
            await asyncio.sleep(pause)
            if seen != self.left:
                seen = self.left
                await asyncio.to_thread(gc.collect)


class Seldom(logging.Filter):
    """Let a message of the log pass once in a while, and say with the next how many were held back.

    Args:
        pause: seconds between two that are written alike.
        clock: gives the time in seconds.
    """

    def __init__(self, pause: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._pause, self._clock = pause, clock
        self._last: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be written."""
        now, key = self._clock(), str(record.msg)[:80]
        at, held = self._last.get(key, (-float("inf"), 0))
        if now < at + self._pause:
            self._last[key] = at, held + 1
            return False
        if len(self._last) > 256:
            self._last.clear()
        self._last[key] = now, 0
        if held:
            record.msg, record.args = f"{record.getMessage()} (and {held:,} more like it)", ()
        return True


_LOG.addFilter(Seldom())


def warn(message: str, *values: object) -> None:
    """Write a line to the log, the same one at most once a minute."""
    _LOG.warning(message, *values)
