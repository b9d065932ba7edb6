"""Whoever connects has to ask for something soon: until then it gets no more than a place among few."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from ui.serving.connections import warn

_END = b"\r\n\r\n"
_MOST_BYTES = 2**16  # of a request's head; the server itself takes no more


class Arrivals:
    """The connections that have not asked for anything yet. Only on the event loop.

    Args:
        each: that one address may have.
        most: that all may have together.
        patience: seconds in which the head of a request has to be there.
    """

    def __init__(self, each: int, most: int, patience: float) -> None:
        self.each, self.most, self.patience = each, most, patience
        self._waiting: list[_Arrival] = []
        self._servers: list[asyncio.Server] = []

    @classmethod
    def of(cls, descriptors: int) -> Arrivals:
        """Make it for a number of descriptors."""
        most = max(16, descriptors // 8)
        return cls(min(64, most), most, patience=10.0)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether nobody can arrive any more: the server is going down, and waits for those who are there."""
        return bool(self._servers) and not any(each.is_serving() for each in self._servers)

    def enter(self, arrival: _Arrival) -> None:
        """Take one in. If there is no room, the one that has asked for nothing the longest has to go for it."""
        own = [each for each in self._waiting if each.address == arrival.address]
        if len(own) >= self.each:
            own[0].give_up()
        elif len(self._waiting) >= self.most:
            self._waiting[0].give_up()
        self._waiting.append(arrival)

    def leave(self, arrival: _Arrival) -> None:
        """Note that one has asked, or is gone."""
        if arrival in self._waiting:
            self._waiting.remove(arrival)

    def stand_before(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have every server that is created on a loop from now on served through this."""
        create: Callable[..., Any] = loop.create_server

        async def create_server(factory: Callable[[], asyncio.Protocol], *args: Any, **options: Any) -> Any:
            made = await create(lambda: _Arrival(self, factory), *args, **options)
            self._servers.append(made)
            return made

        with suppress(AttributeError):  # a loop of another kind may not be told
            loop.create_server = create_server  # type: ignore[method-assign, assignment]


class _Arrival(asyncio.Protocol):
    """Keeps what a connection sends until it is the head of a request; then the server's own protocol has it."""

    def __init__(self, arrivals: Arrivals, factory: Callable[[], asyncio.Protocol]) -> None:
        self._arrivals, self._factory = arrivals, factory
        self._head = b""
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self._timer = asyncio.get_running_loop().call_later(self._arrivals.patience, self.give_up)
        self._arrivals.enter(self)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if _END not in self._head and len(self._head) <= _MOST_BYTES:
            return
        self._leave()
        protocol = self._factory()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def give_up(self) -> None:
        """Close the connection."""
        warn("Closed connections that asked for nothing, the last from %s", self.address)
        self._leave()
        self._transport.abort()

    def _leave(self) -> None:
        self._timer.cancel()
        self._arrivals.leave(self)
