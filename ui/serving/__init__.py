"""Serving the dashboard: who may come in, how many, and what is said to the others."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route

from ui.serving.arrivals import Arrivals
from ui.serving.base_address import BaseAddress
from ui.serving.connections import Connections, Seldom, raise_limit
from ui.serving.door import Door
from ui.serving.guard import Guard
from ui.serving.health import Health, telling_health

__all__ = ["serving"]


def serving(
    start: Callable[[], object], health: Callable[[], Health], make_routes: Callable[[Callable[[], bool]], list[Route]]
) -> dict[str, Any]:
    """Return what `st.App` takes beside the script: the guard before every request, the health route, and others.

    Args:
        start: makes what works, before the server listens.
        health: tells how that does.
        make_routes: makes further routes, told what tells whether the server is going down.
    """
    door = Door.of(st.get_option("server.address"))
    descriptors = raise_limit()
    connections, arrivals = Connections.of(descriptors), Arrivals.of(descriptors)
    tell_health = telling_health(health)

    @asynccontextmanager
    async def lifespan(app: st.App) -> AsyncIterator[None]:
        _quieten()
        await asyncio.to_thread(start)
        arrivals.stand_before(asyncio.get_running_loop())  # the server listens after this
        print(door.greet(st.get_option("server.port"), bool(st.get_option("server.sslCertFile"))), flush=True)
        tidying = asyncio.create_task(connections.tidy())
        yield
        tidying.cancel()

    return {
        "middleware": [Middleware(Guard, door=door, connections=connections), Middleware(BaseAddress)],
        "routes": [
            *(Route(path, tell_health, methods=["GET"]) for path in ("/healthz", "/api/health")),
            *make_routes(lambda: arrivals.closed),
        ],
        "lifespan": lifespan,
    }


def _quieten() -> None:
    """Keep the log from growing with what strangers do: no line for each connection, none twice in a minute."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(Seldom())
    logging.getLogger("ui.serving").addHandler(logging.StreamHandler(sys.stderr))
