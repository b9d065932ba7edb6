"""What a tab is told, over a route: as server-sent events, or what there is now where no stream comes through."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from explorer.jsonable import to_json
from ui.live.tab import Tab
from ui.live.tabs import TABS, Tabs

PACE = 0.1  # seconds between two events
_LOOK, _HEARTBEAT = 1.0, 15.0  # seconds until a silent stream looks whether it is to end, and until it says a word
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def make_tab_routes(stopping: Callable[[], bool], tabs: Tabs = TABS) -> list[Route]:
    """Return the route on which tabs listen.

    Args:
        stopping: tells whether the server is going down.
    """

    async def listen(asked: Request) -> Response:
        tab = tabs.find(asked.path_params["tab"])
        if tab is None:
            return JSONResponse({"error": "No such tab any more."}, 410, _HEADERS)
        again = bool(asked.query_params.get("again"))
        if "text/event-stream" in asked.headers.get("accept", ""):
            return StreamingResponse(_stream(tab, again, asked, stopping), 200, _HEADERS, "text/event-stream")
        tab.end_stream()  # if there is one, it does not come through
        tab.hear()
        if again:
            tab.catch_up()
        return JSONResponse(await run_in_threadpool(tell, tab), headers=_HEADERS)

    return [Route("/api/tabs/{tab}", listen, methods=["GET"])]


def tell(tab: Tab, stream: object | None = None) -> dict[str, Any]:
    """Take what a tab is to be told now: panels to run, changes of paintings with their serials, panels' last runs."""
    news = tab.take(stream)
    paint: dict[str, Any] = {}
    for key, painting in news.paintings.items():
        try:
            if changed := painting.look():
                paint[key] = [painting.serial, to_json(changed)]
        except Exception:  # of a page that is being drawn anew, perhaps; its next run says what is wrong
            traceback.print_exc(file=sys.stderr)
            tab.rerun([painting.panel])
    return {"run": news.panels, "paint": paint, "ran": news.runs}


async def _stream(tab: Tab, again: bool, asked: Request, stopping: Callable[[], bool]) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    stream = tab.begin_stream()
    if again:  # not before: the stream until now, which may not come through, would take it
        tab.catch_up()
    try:
        with tab.feed.listening() as woken:
            yield "retry: 1000\ndata: {}\n\n"  # whoever hears this knows that nothing holds the stream back
            spoke, gone = loop.time(), False
            while tab.listens_to(stream) and not stopping() and not gone:
                woken.clear()
                wait = tab.wait_for()
                if wait == 0:
                    told = await run_in_threadpool(tell, tab, stream)
                    if told["run"] or told["paint"]:
                        spoke = loop.time()
                        yield f"data: {json.dumps(told)}\n\n"
                    await asyncio.sleep(PACE)
                    continue
                if loop.time() > spoke + _HEARTBEAT:
                    spoke = loop.time()
                    yield ": still here\n\n"
                try:
                    await asyncio.wait_for(woken.wait(), _LOOK if wait is None else min(wait, _LOOK))
                except TimeoutError:
                    gone = await asked.is_disconnected()
    finally:
        tab.end_stream(stream)
