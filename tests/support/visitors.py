"""Visitors of a server that has just started."""

from __future__ import annotations

import asyncio
from typing import Any

from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from tests.support.protocol import User


class Visitor(User):
    """One session that goes to a page and stays until there is nothing more to be done."""

    work, finished = "", 0

    def _take(self, message: ForwardMsg) -> None:
        super()._take(message)
        if message.WhichOneof("type") == "script_finished":
            self.finished += 1

    def _paint(self, key: str, data: dict[str, Any]) -> None:
        super()._paint(key, data)
        if key == "work":
            self.work = data["words"]

    async def visit(self, page: str, limit: float = 120) -> None:
        await self._ask(page)
        async with asyncio.timeout(limit):
            while not (self.finished and self.work == "Work: none") and not self.errors:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
