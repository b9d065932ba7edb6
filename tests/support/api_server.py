"""The HTTP API over a cache, in a process to be killed."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette

from explorer.execution.engine import Engine
from explorer.verbs.request import Request
from explorer.verbs.requests import Requests
from ui.api.routes import make_routes
from ui.api.taking_up import take_up
from ui.live.feed import FEED
from ui.view.permissions import Permissions


def serve_api(pipe: Connection, cache: Path, models: Path, step: float = 0) -> None:
    """Take up what is left and serve; tell the port. `step` is a pause before each SQL statement of the work."""
    torch.set_num_threads(1)
    requests = Requests(Engine(cache, lambda owner: False, lambda job, moved: FEED.changed()))
    permissions = Permissions((models,), ())
    if step:
        requests.engine.store._db.set_trace_callback(lambda _: time.sleep(step))
    take_up(lambda: requests, lambda: permissions)
    routes = make_routes(lambda: False, lambda: requests, lambda: permissions)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        pipe.send(listener.getsockname()[1])
        uvicorn.Server(uvicorn.Config(Starlette(routes=list(routes)), log_level="critical")).run([listener])


def call(port: int, path: str, request: Request | None = None) -> tuple[int, Any]:
    """Ask a route; return the status and the answer."""
    body = None if request is None else request.model_dump_json().encode()
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=60) as found:
            return found.status, json.load(found)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def wait_for_answer(port: int, request: Request) -> Any:
    """Follow a request's job to its end; return its answer."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/jobs/{request.key}?stream=1", timeout=120) as stream:
        stream.read()
    status, found = call(port, f"/api/results/{request.key}")
    assert status == 200, found
    return found
