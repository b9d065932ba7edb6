"""A proxy between a browser and the dashboard: keeps streams to itself, cuts them, leads to another server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Passes on one request a connection.

    Args:
        url: the server's.
    """

    def __init__(self, url: str) -> None:
        self.holding = False  # whether nothing of a stream is passed on
        self.refusing = False  # whether nobody is let through
        self.streams = 0  # that were asked for
        self._loop = asyncio.new_event_loop()
        self._open: dict[asyncio.StreamWriter, bool] = {}  # whether each is a stream's
        self.lead_to(url)

    def lead_to(self, url: str) -> None:
        """Lead to another server from now on."""
        host, _, port = url.removeprefix("http://").partition(":")
        self._server = host, int(port)

    def cut(self, streams_only: bool = True) -> None:
        """Cut all streams, or all connections."""

        def abort() -> None:
            for writer, is_stream in list(self._open.items()):
                if is_stream or not streams_only:
                    writer.transport.abort()

        self._loop.call_soon_threadsafe(abort)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            return writer.transport.abort()
        self._open[writer] = False  # before it says anything: browsers open connections in advance
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            stream = b"text/event-stream" in head
            if b"upgrade: websocket" not in head.lower():
                lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
                head = b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])
            self.streams += stream
            self._open[writer] = stream
            from_server, to_server = await asyncio.open_connection(*self._server)
            self._open[to_server] = stream
            to_server.write(head)
            there = asyncio.create_task(_pass_on(reader, to_server))
            await _pass_on(from_server, None if stream and self.holding else writer)
            there.cancel()
            self._close(to_server)
        self._close(writer)

    def _close(self, writer: asyncio.StreamWriter) -> None:
        self._open.pop(writer, None)
        writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    with suppress(OSError):
        while part := await reader.read(2**16):
            if writer is not None:
                writer.write(part)
                await writer.drain()


@contextmanager
def stand_between(url: str) -> Iterator[tuple[Proxy, str]]:
    """Serve a proxy before a server; give it and its address."""
    proxy = Proxy(url)
    loop = proxy._loop
    serving = threading.Thread(target=loop.run_forever, daemon=True)
    serving.start()
    starting = asyncio.run_coroutine_threadsafe(asyncio.start_server(proxy._serve, "127.0.0.1", 0), loop)
    server = starting.result()
    yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def end() -> None:
        server.close()
        proxy.cut(streams_only=False)
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were aborted close now

    asyncio.run_coroutine_threadsafe(end(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    serving.join()
    loop.close()
