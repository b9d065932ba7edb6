"""The HTTP API: every status, what may be read, who may stop what, and the stream."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from explorer.execution.engine import Engine
from explorer.verbs.catalogue import VERBS
from explorer.verbs.request import answer
from explorer.verbs.requests import Requests
from tests.support.gates import WAIT, Gate, wait
from tests.support.requests import write_request
from tests.support.tiny_models import Tiny
from ui.api.routes import make_routes
from ui.api.stream import PACE
from ui.live.feed import FEED
from ui.serving.connections import Connections
from ui.serving.door import Door
from ui.serving.guard import Guard
from ui.view.permissions import Permissions

URL, TOKEN = "http://127.0.0.1:8501", "the-token-of-this-test"
JSON = {"Content-Type": "application/json"}


class Server:
    """An engine behind the guard, and which browsers are there."""

    def __init__(self, folder: Path, permissions: Permissions, door: Door) -> None:
        self.there: set[str] = set()
        self.requests = Requests(Engine(folder, self.there.__contains__, lambda job, moved: FEED.changed()))
        self.worker = self.requests.engine.worker
        self.stopping = False
        routes = make_routes(lambda: self.stopping, lambda: self.requests, lambda: permissions)
        guard = Middleware(Guard, door=door, connections=Connections(8, 8, 60.0))
        self.client = TestClient(Starlette(routes=list(routes), middleware=[guard]), base_url=URL)

    def post(self, body: Any, **headers: str) -> Any:
        content = body if isinstance(body, str) else body.model_dump_json()
        return self.client.post("/api/requests", content=content, headers=JSON | headers)

    def hold_up(self, owner: str = "a browser") -> Gate:
        """Have the worker busy until the gate is opened."""
        gate = Gate()
        self.worker.ask(owner, "slot", "gate", "in between", gate, patience=1e9)
        assert gate.started.wait(WAIT)
        return gate


@pytest.fixture
def permissions(tiny: Tiny) -> Permissions:
    return Permissions((tiny.folder("llama").resolve().parent,), ())


@pytest.fixture
def server(tmp_path: Path, permissions: Permissions) -> Iterator[Server]:
    made = Server(tmp_path, permissions, Door.of("127.0.0.1", {}))
    yield made
    made.worker.close()


def test_an_answer_is_asked_for_waited_for_and_fetched(tiny: Tiny, server: Server, tmp_path: Path) -> None:
    gate, asked = server.hold_up(), write_request(tiny, "score", {"mask": ["1"]})
    posted = server.post(asked)
    assert posted.status_code == 202
    assert posted.headers["cache-control"] == "no-store"
    told = posted.json()
    assert told == server.post(asked).json(), "an equal request is the same job"
    assert (told["key"], told["state"], told["owner"]) == (asked.key, "queued", "api")
    assert (told["title"], told["left"], told["error"]) == ("score --mask 1", None, None)
    listed = server.client.get("/api/jobs").json()["jobs"]
    assert [(job["owner"], job["state"]) for job in listed] == [("browser", "running"), ("api", "queued")]
    assert server.client.get(f"/api/results/{asked.key}").status_code == 202
    assert server.client.get(f"/api/jobs/{asked.key}").json() == told
    gate.open.set()
    job = server.requests.find(asked.key)
    assert job is not None
    wait(job)
    found = server.client.get(f"/api/results/{asked.key}")
    assert (found.status_code, found.headers["content-type"]) == (200, "application/json")
    assert found.json() == answer(asked, tmp_path / "another")
    assert server.client.get("/api/jobs").json()["jobs"][0]["state"] == "done", "answers are listed while they are kept"


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        ("{", 422, "The request is no JSON: "),
        ('{"kind": "export"}', 422, "No such kind of request: 'export'. Ask for info"),
        ('{"kind": "score", "options": {"mask": 1}}', 422, "An option is not valid: mask is 1: "),
        ('{"kind": "score", "text": {"window": 1}}', 422, "The window predicts nothing: 1 ids. "),
        ('{"kind": "score", "options": {"mask": ["' + " " * 2**20 + '"]}}', 413, "The request is too large: "),
        ('{"kind": "score", "model": {"model": "/etc"}}', 403, "A request may not read this model: '/etc'. "),
        ('{"kind": "score", "text": {"name": "/etc/passwd"}}', 403, "A request may not read this text: "),
        ('{"kind": "score", "text": {"name": "tokens:/etc/passwd"}}', 403, "A request may not read this text: "),
        ('{"kind": "score", "calibration": {"names": ["c4", "/etc/passwd@2"]}}', 403, "may not read this text: "),
        ('{"kind": "measure", "options": {"texts": ["/nosuch"]}}', 403, "A request may not read this text: '/nosuch'"),
        ('{"kind": "score", "text": {"name": "a\\u0000"}}', 403, "No such text: "),
        ('{"kind": "score", "model": {"model": "o/m", "trust_remote_code": true}}', 403, "A model's code is not run"),
    ],
)
def test_what_is_not_accepted_says_why(server: Server, body: str, status: int, line: str) -> None:
    found = server.post(body)
    assert (found.status_code, list(found.json())) == (status, ["error"])
    assert line in found.json()["error"]
    assert server.requests.list() == []


def test_only_json_is_taken(tiny: Tiny, server: Server) -> None:
    body = write_request(tiny, "score", {}).model_dump_json()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert server.client.post("/api/requests", content=body, headers={"Content-Type": kind}).status_code == 415


def test_what_is_not_known_is_not_found(server: Server) -> None:
    for method, path in [("GET", "jobs"), ("DELETE", "jobs"), ("GET", "results")]:
        found = server.client.request(method, f"/api/{path}/nosuch")
        assert (found.status_code, found.json()["error"]) == (404, "No such job: 'nosuch'. Send its request again.")


def test_what_failed_says_why(
    tiny: Tiny, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_down(work: Any, **options: Any) -> Any:
        raise ZeroDivisionError("by chance")

    asked = [write_request(tiny, "score", {"mask": ["9"]}), write_request(tiny, "info", {})]
    monkeypatch.setitem(VERBS, "info", break_down)
    for request, status, line in zip(asked, (409, 500), ("layers 0 to 3", "by chance"), strict=True):
        key = server.post(request).json()["key"]
        job = server.requests.find(key)
        assert job is not None
        wait(job)
        found = server.client.get(f"/api/results/{key}")
        assert found.status_code == status
        assert line in found.json()["error"]
        assert server.client.get(f"/api/jobs/{key}").json()["error"] == found.json()["error"]


def test_more_than_may_wait_is_refused(tiny: Tiny, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.verbs.requests._MOST_ACTIVE", 1)
    gate = server.hold_up()
    assert server.post(write_request(tiny, "score", {})).status_code == 202
    refused = server.post(write_request(tiny, "measure", {}))
    assert (refused.status_code, "Too much is waiting" in refused.json()["error"]) == (503, True)
    gate.open.set()


def test_a_request_is_stopped_but_not_what_a_browser_waits_for(tiny: Tiny, server: Server) -> None:
    server.there.add("a browser")
    server.hold_up()
    asked = write_request(tiny, "score", {})
    assert server.post(asked).json()["stoppable"]
    refused = server.client.delete("/api/jobs/gate")
    assert (refused.status_code, "a browser waits for it" in refused.json()["error"]) == (409, True)
    stopped = server.client.delete(f"/api/jobs/{asked.key}")
    assert (stopped.status_code, stopped.json()["state"]) == (200, "cancelled")
    assert server.client.get(f"/api/results/{asked.key}").status_code == 409
    server.there.discard("a browser")
    running = server.client.delete("/api/jobs/gate")
    assert (running.status_code, running.json()["state"]) == (202, "running")
    gate_job = server.worker.find("gate")
    assert gate_job is not None
    assert wait(gate_job).state == "cancelled"
    assert server.post(asked).json()["state"] in ("queued", "running", "done"), "asked again it runs"


def read_events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize("how", [{"params": {"stream": "1"}}, {"headers": {"Accept": "text/event-stream"}}])
def test_the_stream_of_a_job_is_coalesced_and_ends_with_it(server: Server, how: dict[str, Any]) -> None:
    gate, start = server.hold_up(), time.monotonic()
    threading.Timer(1.0, gate.open.set).start()
    found = server.client.get("/api/jobs/gate", **how)
    took = time.monotonic() - start
    assert found.headers["content-type"].startswith("text/event-stream")
    events = read_events(found.text)
    assert gate.steps > 2 * len(events), "it got on more often than was told"
    assert 3 < len(events) <= took / PACE + 2
    assert [event["done"] for event in events] == sorted(event["done"] for event in events)
    assert [event["state"] for event in events] == ["running"] * (len(events) - 1) + ["done"]
    assert len(FEED) == 0


def test_the_stream_of_all_begins_with_all_tells_every_end_and_ends_with_the_server(tiny: Tiny, server: Server) -> None:
    server.there.add("a browser")
    gate, asked = server.hold_up(), write_request(tiny, "info", {})
    server.post(asked)

    def go_on() -> None:
        gate.open.set()
        job = server.requests.find(asked.key)
        assert job is not None
        wait(job)
        threading.Timer(0.5, lambda: setattr(server, "stopping", True)).start()

    threading.Timer(0.5, go_on).start()
    events = read_events(server.client.get("/api/jobs?stream=1").text)
    assert {event["key"] for event in events[:2]} == {"gate", asked.key}
    last = {event["key"]: event["state"] for event in events}
    assert last == {"gate": "done", asked.key: "done"}
    assert [event["state"] for event in events].count("done") == 2, "an end is told once"


def test_too_many_streams_are_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ui.api.routes.MOST", 0)
    assert server.client.get("/api/jobs?stream=1").status_code == 503
    assert server.client.get("/api/jobs").status_code == 200


def test_another_page_asks_nothing(tiny: Tiny, server: Server) -> None:
    asked = write_request(tiny, "score", {})
    for origin in ("http://evil.example", "null", "http://127.0.0.1:8600"):
        assert server.post(asked, Origin=origin).status_code == 403
        assert server.client.delete(f"/api/jobs/{asked.key}", headers={"Origin": origin}).status_code == 403
    assert server.post(asked, Host="evil.example").status_code == 403
    assert server.requests.list() == []
    assert server.post(asked, Origin=URL).status_code == 202
    assert "access-control-allow-origin" not in server.client.get("/api/jobs", headers={"Origin": URL}).headers


def test_without_the_token_nothing_is_told(tiny: Tiny, tmp_path: Path, permissions: Permissions) -> None:
    server = Server(tmp_path, permissions, Door.of("0.0.0.0", {"EXPLORER_TOKEN": TOKEN}))
    asked = write_request(tiny, "score", {})
    assert server.post(asked).status_code == 401
    assert server.post(asked, Authorization="Bearer wrong").status_code == 401
    for path in ("jobs", "jobs?stream=1", f"jobs/{asked.key}", f"results/{asked.key}", "openapi.json"):
        assert server.client.get(f"/api/{path}").status_code == 401
    assert server.requests.list() == []
    assert server.post(asked, Authorization=f"Bearer {TOKEN}").status_code == 202
    server.worker.close()


def test_the_document_names_what_is_there(server: Server) -> None:
    found = server.client.get("/api/openapi.json").json()
    routes = {
        (route.path, method.lower())
        for route in make_routes(lambda: False)
        for method in (route.methods or set()) - {"HEAD"}
        if not route.path.endswith("openapi.json")
    }
    assert {(path, method) for path, methods in found["paths"].items() for method in methods} == routes
    assert found["components"]["schemas"]["Request"]["properties"]["kind"]["enum"] == list(VERBS)
    text = json.dumps(found)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in found["components"]["schemas"]
    assert "GenerateOptions" in found["components"]["schemas"]
