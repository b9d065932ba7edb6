"""Streamlit's protocol and the tab's stream from the browser's side: many users, without a browser for each."""

from __future__ import annotations

import asyncio
import json
import math
import re
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from explorer.masks.mask import Mask
from ui.explore.strip import write_cells
from ui.parts.number_format import describe_perplexity

UNSEEN = 3.0  # seconds until a run that the server told of counts as lost, as in a browser
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
        self.tab = ""
        self._bells: dict[int, str] = {}  # the fragments of panels by number
        self._address = ""  # the component that tells where somebody went, on the page that is shown
        self._strip = ("", "")  # the strip, and the fragment in which it was drawn
        self._states: dict[str, Any] = {}  # what components of the page say
        self._left = False  # whether that is another page than Explore
        self._came = False  # whether the session has had its link
        self._due: set[int] = set()
        self._seen: dict[int, int] = {}  # the last run of each panel that was seen
        self._ran: dict[int, tuple[int, float]] = {}  # the last one that the server told of, and since when
        self._running, self._since = False, 0.0
        self._painted: dict[str, dict[str, Any]] = {}
        self._early: dict[str, tuple[int, dict[str, Any]]] = {}
        self._listener: asyncio.Task[None] | None = None
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
        tasks = [task for task in (self._reader, self._listener) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._socket.close()

    async def turn_off(self, mask: str, limit: float = 300) -> tuple[str, float]:
        """Go to a mask; return its exact readout, and the seconds until it was there."""
        start = time.monotonic()
        self.mask, self.shown, self.readout = mask, "", ""
        await self._go()
        await self._see(limit)
        return self.readout, time.monotonic() - start

    async def toggle(self, mask: str, limit: float = 300) -> tuple[str, float]:
        """Go to a mask on the strip of a page that is drawn; return as `turn_off`."""
        start = time.monotonic()
        self.mask, self.readout = mask, ""
        shown = self._painted["strip"]
        off = {"cells": write_cells(Mask.parse(mask), shown["layers"]), "revision": shown["revision"]}
        self._states[self._strip[0]] = {"off": off}
        await self._ask(panel=self._strip[1])
        await self._see(limit, header=False)
        return self.readout, time.monotonic() - start

    async def slip(self, mask: str, limit: float = 300) -> None:
        """Go back to a mask, told by the bell of a panel that rang at that moment, as a browser now and then does."""
        self.mask, self.shown, self.readout = mask, "", ""
        query = urlencode({**self.parameters, "mask": mask})
        self._states[self._address] = {"went": {"query": query, "at": self.sent}}
        await self._ask(panel=max(self._bells.items())[1])
        await self._see(limit)

    async def _see(self, limit: float, header: bool = True) -> None:
        """Wait for the exact readout of the mask that was set last, and for the header to name it."""
        async with asyncio.timeout(limit):
            while not (EXACT.fullmatch(self.readout) and (self.shown == self.mask or not header)):
                self._news.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 1.0)
                await self._answer()

    async def hurry(self, mask: str) -> None:
        """Ask for a mask and do not wait for its readout."""
        self.mask = mask
        await self._go()

    async def drop(self, come_back: bool) -> None:
        """Lose the connection without a word; connect again, to the same session or as somebody new."""
        self._reader.cancel()
        self._socket.transport.abort()
        self.shown, self.readout = "", ""
        self._running = False
        if not come_back:
            self.session, self.pages, self.page, self.tab = "", {}, "", ""
            for table in (self._bells, self._due, self._painted, self._states, self._seen, self._ran):
                table.clear()
            self._address, self._left, self._came = "", False, False
        await self._connect()

    async def leave(self, page: str) -> None:
        """Ask for another page."""
        await self._ask(page)

    async def _go(self) -> None:
        """Ask for the mask: by a link at first, then by going back or forward, which a page that is drawn tells."""
        if self._came and not self._left and not self._address:
            await self._ask()
            while not self._address:
                self._news.clear()
                await self._news.wait()
        self._came = True
        await self._ask()

    async def _ask(self, page: str = "", panel: str = "") -> None:
        message = BackMsg()
        run = message.rerun_script
        run.fragment_id = panel
        run.query_string = urlencode({**self.parameters, "mask": self.mask})
        run.page_name, run.page_script_hash = ("", self.pages[page]) if self.pages else (page, "")
        if panel:
            run.page_script_hash = self.page
        elif self._address and not page and not self._left:
            self._states[self._address] = {"went": {"query": run.query_string, "at": self.sent}}
        if not page and not self._left:
            for component, state in self._states.items():  # all of them: what comes next may be sent in place of this
                run.widget_states.widgets.add(id=component, json_value=json.dumps(state))
        self._left = bool(page) or (self._left and bool(panel))
        if self._left:
            self._states.clear()
        self.sent += 1
        self._running, self._since = True, time.monotonic()
        await self._socket.send(message.SerializeToString())

    async def _read(self) -> None:
        """Take messages until the connection closes; a message that cannot be taken ends `turn_off` too."""
        async for content in self._socket:
            message = ForwardMsg()
            message.ParseFromString(content)  # type: ignore[arg-type]
            self._take(message)
            await self._answer()
            self._news.set()

    async def _listen(self, tab: str) -> None:
        """Hear what the tab is told, and do as its components do."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        while self.tab == tab:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(host, int(port), limit=2**24)
                asked = (
                    f"GET /api/tabs/{tab}?again=1 HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/event-stream\r\n\r\n"
                )
                writer.write(asked.encode())
                try:
                    while self.tab == tab and (line := await reader.readline()):
                        if line.startswith(b"data: "):
                            await self._hear(json.loads(line[6:]))
                finally:
                    writer.close()
            await asyncio.sleep(0.2)

    async def _hear(self, told: dict[str, Any]) -> None:
        self._due |= {number for number, _ in told.get("run", ())}
        for number, run in told.get("ran", ()):
            if self._ran.get(number, (0, 0.0))[0] != run:
                self._ran[number] = run, time.monotonic()
        for key, (serial, changes) in told.get("paint", {}).items():
            shown = self._painted.get(key)
            if shown is not None and shown["painting"]["serial"] == serial:
                shown.update(changes)
                self._paint(key, shown)
            else:
                before = self._early.get(key, (serial, {}))
                self._early[key] = serial, {**(before[1] if before[0] == serial else {}), **changes}
        await self._answer()
        self._news.set()

    @property
    def _runs(self) -> bool:
        """Whether a run goes on, or was asked for a moment ago: of a panel that is gone nothing is heard."""
        return self._running and time.monotonic() < self._since + 3.0

    async def _answer(self) -> None:
        """Ask for the runs of panels that are due, once nothing runs; of one that was not seen, after a while."""
        for number, (run, since) in self._ran.items():
            if self._seen.get(number, run) < run and (now := time.monotonic()) > since + UNSEEN:
                self._due.add(number)
                self._ran[number] = run, now
        while not self._runs and (known := self._due & self._bells.keys()):
            number = known.pop()
            self._due.discard(number)
            await self._ask("", self._bells[number])

    def _take(self, message: ForwardMsg) -> None:
        kind = message.WhichOneof("type")
        if kind == "script_finished":
            self._running = False
        elif kind == "new_session":
            self._running, self._since = True, math.inf
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
        if component.component_name.endswith("address"):
            self._address = component.id
        elif component.component_name.endswith("bell"):
            self._bells[data["panel"]] = fragment
            self._seen[data["panel"]] = data["run"]
            self._join(data["tab"])
        elif "painting" in data:
            self._join(data["painting"]["tab"])
            serial, changes = self._early.get(data["painting"]["key"], (0, {}))
            if data["painting"]["key"] == "strip":
                self._strip = component.id, fragment
            self._painted[data["painting"]["key"]] = data | (changes if serial == data["painting"]["serial"] else {})
            self._paint(data["painting"]["key"], self._painted[data["painting"]["key"]])

    def _join(self, tab: str) -> None:
        if self.tab != tab:
            self.tab = tab
            self._listener = asyncio.create_task(self._listen(tab))

    def _paint(self, key: str, data: dict[str, Any]) -> None:
        """Take what a component shows."""
        if key == "strip":
            self._read_instrument(data)

    def _read_instrument(self, data: dict[str, Any]) -> None:
        """Read the perplexity that the browser would show as measured, if the mask is the one that was asked for."""
        score = data["known"].get(data["off"])
        if score and data["off"] == write_cells(Mask.parse(self.mask), data["layers"]):
            self.readout = describe_perplexity(math.exp(score[0]))
