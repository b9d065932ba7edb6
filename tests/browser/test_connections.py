"""How many may be connected: silent connections make room, and what those who left held is freed."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest

from ui.serving.arrivals import Arrivals
from ui.serving.connections import Connections, Seldom
from ui.serving.door import Door
from ui.serving.guard import Guard

LOCAL = Door.of("127.0.0.1", {})


def test_silent_connections_make_room_for_new_ones_and_spoken_ones_stay() -> None:
    connections = Connections(each=3, most=5, patience=60.0)
    first, second, third = (connections.enter("a") for _ in range(3))
    assert first is not None and second is not None and third is not None  # noqa: PT018
    second.heard = third.heard = True
    fourth = connections.enter("a")
    assert fourth is not None
    assert first.shut.is_set()
    fourth.heard = True
    assert connections.enter("a") is None
    others = [connections.enter(name) for name in "bc"]
    assert len(connections) == 5
    assert connections.enter("d") is not None
    assert others[0] is not None
    assert others[0].shut.is_set()
    connections.leave(second)
    assert connections.enter("a") is not None
    assert len(connections) == 5


def test_what_those_who_left_held_is_freed() -> None:
    class Session:
        def __init__(self) -> None:
            self.itself = self

    async def run() -> None:
        connections = Connections(8, 8, 60.0)
        session = Session()
        held = weakref.ref(session)
        tidying = asyncio.create_task(connections.tidy(pause=0.02))
        connections.leave(connections.enter("a"))  # type: ignore[arg-type]
        del session
        async with asyncio.timeout(60):
            while held() is not None:
                await asyncio.sleep(0.02)
        tidying.cancel()

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_one_that_says_nothing_is_closed_after_a_while() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            heard.append(message["type"])
            if message["type"] == "websocket.disconnect":
                return

    async def run(messages: list[str], protocols: list[str]) -> int:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for kind in messages:
            queue.put_nowait({"type": kind})
        connections = Connections(8, 8, patience=0.05)
        guard = Guard(app, LOCAL, connections)
        scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": [(b"host", b"localhost")],
                 "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "subprotocols": protocols}  # fmt: skip
        task = asyncio.ensure_future(guard(scope, queue.get, queue.put))
        await asyncio.sleep(0.3)
        open_then = len(connections)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(connections) == 0
        return open_then

    assert asyncio.run(run(["websocket.connect"], ["streamlit", "xsrf"])) == 0
    assert heard == ["websocket.connect", "websocket.disconnect"]
    assert asyncio.run(run(["websocket.connect", "websocket.receive"], ["streamlit", "xsrf"])) == 1
    assert asyncio.run(run(["websocket.connect"], ["streamlit", "xsrf", "a-session"])) == 1


def test_a_line_of_the_log_comes_once_a_minute_and_counts_what_was_held_back() -> None:
    now = [0.0]
    seldom = Seldom(60.0, lambda: now[0])

    def passes(at: float, message: str) -> str | None:
        now[0] = at
        record = logging.LogRecord("x", logging.WARNING, "", 0, message, ("a",), None)
        return record.getMessage() if seldom.filter(record) else None

    assert passes(0, "refused %s") == "refused a"
    assert [passes(at, "refused %s") for at in (1, 2, 59)] == [None] * 3
    assert passes(30, "another %s") == "another a"
    assert passes(61, "refused %s") == "refused a (and 3 more like it)"
    assert passes(62, "refused %s") is None


class _Answers(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"got " + data)  # type: ignore[attr-defined]


def test_who_connects_and_asks_for_nothing_is_closed_and_others_are_served() -> None:
    async def run() -> None:
        arrivals = Arrivals(each=3, most=8, patience=0.3)
        loop = asyncio.get_running_loop()
        arrivals.stand_before(loop)
        server = await loop.create_server(_Answers, "127.0.0.1", 0)
        place = server.sockets[0].getsockname()
        served = await asyncio.open_connection(*place)
        for part in (b"GET / HT", b"TP/1.1\r\nHost: a\r\n\r", b"\n"):
            served[1].write(part)
            await asyncio.sleep(0.02)
        assert await served[0].read(100) == b"got GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        assert len(arrivals) == 0
        silent = [await asyncio.open_connection(*place) for _ in range(3)]
        silent[0][1].write(b"GET / HTTP/1.1\r\nHost: ")
        await asyncio.sleep(0.05)
        assert len(arrivals) == 3
        another = await asyncio.open_connection(*place)  # the first of the silent ones goes for it
        with pytest.raises((ConnectionError, EOFError)):
            await asyncio.wait_for(silent[0][0].readexactly(1), 0.2)
        another[1].write(b"a\r\n\r\n")
        assert await another[0].read(100) == b"got a\r\n\r\n"
        assert len(arrivals) == 2
        for reader, _ in silent[1:]:
            with pytest.raises((ConnectionError, EOFError)):
                await asyncio.wait_for(reader.readexactly(1), 20)
        assert len(arrivals) == 0
        served[1].write(b"still there")
        assert await served[0].read(100) == b"got still there"
        for _, writer in (served, another, *silent):
            writer.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # for the last of them to be gone

    asyncio.run(run())
