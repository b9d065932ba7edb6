"""Tells a page's browser where the server is; Streamlit's would look for it below the page, too, and find nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What comes before the page's own path is a proxy's; the frontend reads this object once, when its script begins.
_SCRIPT = """<script>
{ const page = %s, at = location.pathname;
  if (at.endsWith(page)) window.explorerAddress = location.origin + at.slice(0, at.length - page.length) + "/";
  if (window.explorerAddress)
    window.__streamlit = { ...window.__streamlit, BACKEND_BASE_URL: window.explorerAddress }; }
</script>"""


@dataclass(frozen=True)
class BaseAddress:
    """ASGI middleware that puts the address below which everything lies into each page."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; a page's HTML gets a script more."""
        page = scope["type"] == "http" and scope["method"] == "GET"
        if not page or "text/html" not in Headers(scope=scope).get("accept", ""):
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        await self.app({**scope, "headers": plain}, receive, _Adding(send, scope["path"]))


class _Adding:
    """Sends an answer on; of a page whole, with the script at the end of its head."""

    def __init__(self, send: Send, path: str) -> None:
        self._send, self._path, self._body = send, path, b""
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "")
            if message["status"] == 200 and kind.startswith("text/html"):
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self._start)
            return
        await self._send(message)

    async def _finish(self, start: Message) -> None:
        page = json.dumps(self._path).replace("<", "\\u003c")
        body = self._body.replace(b"</head>", (_SCRIPT % page).encode() + b"</head>", 1)
        headers = MutableHeaders(raw=list(start["headers"]))
        if "content-length" in headers:
            headers["content-length"] = str(len(body))
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})
