"""The guard before every request: the right host, the right origin, the token, room for one more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.serving.connections import Connection, Connections, warn
from ui.serving.door import Door, read_host
from ui.serving.refusal import Refusal, refuse_host, refuse_origin, refuse_stranger

#: Routes that tell only whether the server is well.
_OPEN = frozenset({"/healthz", "/api/health", "/_stcore/health"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class Guard:
    """ASGI middleware that lets in whom the door lets in, and as many as there is room for."""

    app: ASGIApp
    door: Door
    connections: Connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        answer = self._judge(scope)
        if scope["type"] == "http":
            await (answer or self.app)(scope, receive, send if scope.get("known") else _closing(send))
        elif answer is None:
            await self._connect(scope, receive, send)
        else:
            if isinstance(answer, Refusal):
                warn("Refused connections: " + answer.reason)
            await _close(send)

    def _judge(self, scope: Scope) -> Response | None:
        """Return the answer to a request that does not get through."""
        asked = HTTPConnection(scope)
        hosts = asked.headers.getlist("host")
        host = read_host(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self.door.answers_to(host[0]):
            return refuse_host(hosts[0] if hosts else "")
        origin = asked.headers.get("origin")
        writes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        if origin is not None and writes and not self.door.allows_origin(origin, hosts[0]):
            return refuse_origin(origin)
        return self._judge_token(asked, host[0])

    def _judge_token(self, asked: HTTPConnection, host: str) -> Response | None:
        """Ask for the token: in the query once, which gives a cookie; in the cookie; or in a header."""
        scope, shown = asked.scope, asked.query_params.get("token")
        server = scope.get("server") or ("",)
        cookie = f"explorer-token-{server[-1]}"
        needed = self.door.asks_token(host, server[0])
        known = not needed or any(
            (self.door.knows(shown), self.door.knows_cookie(asked.cookies.get(cookie)), self.door.knows(_bearer(asked)))
        )
        scope["known"] = known
        if shown is not None and scope["type"] == "http" and known and "text/html" in asked.headers.get("accept", ""):
            answer = RedirectResponse(_without_token(scope), 303, {"Referrer-Policy": "no-referrer"})
            if self.door.knows(shown):
                secure = scope["scheme"] == "https"
                answer.set_cookie(cookie, self.door.pass_word, httponly=True, samesite="lax", secure=secure)
            return answer
        if known or scope["path"] in _OPEN:
            return None
        return refuse_stranger(asked.query_params.multi_items(), wrong=shown is not None)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a websocket if there is room, until it has to go because nothing was heard of it."""
        address = (scope.get("client") or ("",))[0]
        connection = self.connections.enter(address)
        if connection is None:
            warn("Refused connections: no room for more from %s (EXPLORER_CONNECTIONS)", address)
            await _close(send)
            return
        listen = _Listen(connection, receive, None if _resumes(scope) else self.connections.patience)
        try:
            await self.app(scope, listen, send)
        finally:
            self.connections.leave(connection)


class _Listen:
    """Receives a websocket's messages; it is told as gone when it has to go before anything was heard of it."""

    def __init__(self, connection: Connection, receive: Receive, patience: float | None) -> None:
        self._connection, self._receive = connection, receive
        self._until = None if patience is None else asyncio.get_running_loop().time() + patience

    async def __call__(self) -> Message:
        if self._connection.heard:
            return await self._receive()
        message = await self._first()
        self._connection.heard = message["type"] == "websocket.receive"
        return message

    async def _first(self) -> Message:
        coming = asyncio.ensure_future(self._receive())
        shut = asyncio.ensure_future(self._connection.shut.wait())
        left = None if self._until is None else max(0.0, self._until - asyncio.get_running_loop().time())
        try:
            await asyncio.wait({coming, shut}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if coming.done() and not shut.done():
                return coming.result()
        finally:
            for task in (coming, shut):
                task.cancel()
        warn("Closed connections that said nothing, the last from %s", self._connection.address)
        return {"type": "websocket.disconnect", "code": 1013}


def _resumes(scope: Scope) -> bool:
    """Tell whether a browser comes back to its session: it may have nothing to say."""
    return len(scope.get("subprotocols", ())) > 2


async def _close(send: Send) -> None:
    """Refuse a websocket before it is accepted."""
    await send({"type": "websocket.close", "code": 1008})


def _closing(send: Send) -> Send:
    """Keep no connection open to somebody who may not come in."""

    async def send_last(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return send_last


def _bearer(asked: HTTPConnection) -> str | None:
    kind, _, token = asked.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() in ("bearer", "token") else None


def _without_token(scope: dict[str, Any] | Any) -> str:
    """Write the address that was asked for, on this server, without its token."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    rest = urlencode([(name, value) for name, value in query if name != "token"])
    path = "/" + scope["path"].lstrip("/\\")
    return path + (f"?{rest}" if rest else "")
