"""Streamlit's protocol from the browser's side: many users, without a browser for each."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from explorer.masks.mask import Mask
from ui.explore.strip import write_cells
from ui.parts.number_format import describe_perplexity

EXACT = re.compile(r"[\d.,]+(e[+-]\d+)?")


class User:
    """One session on the Explore page: sends what a browser sends, and reads what it would show.

    Args:
        url: the server's.
        parameters: what the URL holds beside the mask.
    """

    def __init__(self, url: str, **parameters: str) -> None:
        self.url, self.parameters = url, parameters
        self.mask, self.shown, self.readout = "none", "", ""
        self.sent = 0
        self.session = ""
        self._panel = ""
        self.errors: list[str] = []
        self.pages: dict[str, str] = {}
        self.page = ""
        self._news = asyncio.Event()

    async def __aenter__(self) -> User:
        await self._connect()
        return self

    async def _connect(self) -> None:
        """Connect; where there was a session before, come back to it, as a browser does."""
        address = self.url.replace("http", "ws") + "/_stcore/stream"
        protocols: Any = ["streamlit", *(["none", self.session] if self.session else [])]
        self._socket: ClientConnection = await connect(
            address, subprotocols=protocols, max_size=None, open_timeout=120, ping_timeout=None
        )
        self._reader = asyncio.create_task(self._read())

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await self._socket.close()

    async def turn_off(self, mask: str, limit: float = 300) -> tuple[str, float]:
        """Go to a mask; return its exact readout, and the seconds until it was there."""
        start = time.monotonic()
        self.mask, self.shown, self.readout = mask, "", ""
        await self._ask()
        await self._see(limit)
        return self.readout, time.monotonic() - start

    async def _see(self, limit: float) -> None:
        """Wait for the exact readout of the mask that was set last."""
        async with asyncio.timeout(limit):
            while not (self.shown == self.mask and EXACT.fullmatch(self.readout)):
                self._news.clear()
                await self._news.wait()

    async def hurry(self, mask: str) -> None:
        """Ask for a mask and do not wait for its readout."""
        self.mask = mask
        await self._ask()

    async def ask_unheard(self, mask: str, limit: float = 300) -> None:
        """Ask for the page with the URL that it had at another mask, as a browser that has not heard of the new one.

        It is through when the page shows the readout of the mask that was set last.
        """
        self.shown, self.readout = "", ""
        await self._ask(mask=mask)
        await self._see(limit)

    async def drop(self, come_back: bool) -> None:
        """Lose the connection without a word; connect again, to the same session or as somebody new."""
        self._reader.cancel()
        self._socket.transport.abort()
        self.shown, self.readout, self._panel = "", "", ""
        if not come_back:
            self.session, self.pages, self.page = "", {}, ""
        await self._connect()

    async def leave(self, page: str) -> None:
        """Ask for another page, and then, too late, for a panel of this one."""
        await self._ask(page)
        await self._ask("", self._panel)

    async def _ask(self, page: str = "", panel: str = "", mask: str = "") -> None:
        message = BackMsg()
        run = message.rerun_script
        run.fragment_id = panel
        run.query_string = urlencode({**self.parameters, "mask": mask or self.mask})
        run.is_history_navigation = not mask  # back or forward, to a link that it had
        run.page_name, run.page_script_hash = ("", self.pages[page]) if self.pages else (page, "")
        self.sent += 1
        await self._socket.send(message.SerializeToString())

    async def _read(self) -> None:
        """Take messages until the connection closes; a message that cannot be taken ends `turn_off` too."""
        async for content in self._socket:
            message = ForwardMsg()
            message.ParseFromString(content)  # type: ignore[arg-type]
            self._take(message)
            self._news.set()

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "new_session":
            self.page = message.new_session.page_script_hash
            self.session = message.new_session.initialize.session_id or self.session
            if not message.metadata.run.fragment_ids:
                self.shown, self.readout = "", ""
        elif kind == "navigation":
            self.pages = {page.url_pathname: page.page_script_hash for page in message.navigation.app_pages}
        elif kind == "delta" and message.delta.WhichOneof("type") == "new_element":
            element = message.delta.new_element
            if element.WhichOneof("type") == "html" and element.html.body.endswith(f">{self.mask}</span>"):
                self.shown = self.mask
            elif element.WhichOneof("type") == "bidi_component":
                self._take_component(message.delta.fragment_id, element.bidi_component)
            elif element.WhichOneof("type") in ("exception", "alert"):
                self.errors.append(element.exception.message or element.alert.body)

    def _take_component(self, fragment: str, component: Any) -> None:
        data = json.loads(component.json or component.mixed.json or "{}")
        if "instrument" in component.component_name:
            self._panel = fragment
            self._read_instrument(data)

    def _read_instrument(self, data: dict[str, Any]) -> None:
        """Read the perplexity that the browser would show as measured, if the mask is the one that was asked for."""
        score = data["known"].get(data["off"])
        if score and data["off"] == write_cells(Mask.parse(self.mask), data["layers"]):
            self.readout = describe_perplexity(math.exp(score[0]))
