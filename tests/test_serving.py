"""Who may come in: hosts, origins, the token; how many, and how long they may say nothing."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from ui.serving import health
from ui.serving.arrivals import Arrivals
from ui.serving.connections import Connections, Seldom
from ui.serving.door import Door, read_host
from ui.serving.guard import Guard
from ui.serving.health import tell_health

STREAM = "ws://{}/_stcore/stream"  # the client itself would ask another host
TOKEN = "the-token-of-this-test"
LOCAL = Door.of("127.0.0.1", {})
OPEN = Door.of("0.0.0.0", {"EXPLORER_TOKEN": TOKEN, "EXPLORER_ALLOWED_HOSTS": "lab.example, other.example"})


async def _say(socket: WebSocket) -> None:
    await socket.accept()
    async for word in socket.iter_text():
        await socket.send_text(f"heard {word}")


def make_client(door: Door, url: str, connections: Connections | None = None) -> TestClient:
    """A client of a guarded application that answers to everything."""
    routes = [
        Route("/healthz", tell_health),
        Route("/{path:path}", lambda request: PlainTextResponse("inside"), methods=["GET", "PUT"]),
        WebSocketRoute("/_stcore/stream", _say),
    ]
    guard = Middleware(Guard, door=door, connections=connections or Connections(8, 8, 60.0))
    return TestClient(Starlette(routes=routes, middleware=[guard]), base_url=url)


@pytest.mark.parametrize(
    ("address", "environment", "local", "always"),
    [
        ("127.0.0.1", {}, True, False),
        ("localhost", {}, True, False),
        ("[::1]", {}, True, False),
        ("127.8.8.8", {}, True, False),
        ("127.0.0.1", {"EXPLORER_TOKEN": "x"}, True, True),
        ("0.0.0.0", {}, False, True),
        ("::", {}, False, True),
        ("", {}, False, True),
        (None, {}, False, True),
        ("192.168.1.7", {}, False, True),
        ("gpu-box", {}, False, True),
        ("localhost.evil.example", {}, False, True),
    ],
)
def test_only_a_server_of_this_machine_alone_asks_no_token(
    address: str | None, environment: dict[str, str], local: bool, always: bool
) -> None:
    door = Door.of(address, environment)
    assert (door.local, door.always) == (local, always)
    assert len(door.token) >= (1 if environment else 40)
    assert (door.token in door.greet(8501)) == always


def test_every_start_has_a_token_of_its_own() -> None:
    assert len({Door.of("0.0.0.0", {}).token for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("door", "host", "answered"),
    [
        (LOCAL, "localhost:8501", True),
        (LOCAL, "LOCALHOST", True),
        (LOCAL, "127.0.0.1:8501", True),
        (LOCAL, "[::1]:8501", True),
        (LOCAL, "evil.example:8501", False),
        (LOCAL, "localhost.evil.example", False),
        (LOCAL, "127.0.0.1.evil.example", False),
        (LOCAL, "0.0.0.0:8501", False),
        (LOCAL, "192.168.1.7:8501", False),
        (LOCAL, "user@localhost", False),
        (LOCAL, "localhost:port", False),
        (LOCAL, "localhost/evil", False),
        (LOCAL, "", False),
        (Door.of("gpu-box", {}), "gpu-box:8501", True),
        (OPEN, "192.168.1.7:8501", True),
        (OPEN, "lab.example", True),
        (OPEN, "Lab.Example.:80", True),
        (OPEN, "evil.example", False),
        (OPEN, "sub.lab.example", False),
    ],
)
def test_a_server_answers_to_its_own_names_only(door: Door, host: str, answered: bool) -> None:
    found = read_host(host)
    assert (found is not None and door.answers_to(found[0])) == answered
    with make_client(door, "http://127.0.0.1:8501") as client:
        headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"} if host else {"Host": " "}
        asked = client.get("/", headers={**headers, "Authorization": f"Bearer {door.token}"})
        assert asked.status_code == (200 if answered else 403)
        assert ("inside" in asked.text) == answered
        if not answered:
            with (
                pytest.raises(WebSocketDisconnect),
                client.websocket_connect(STREAM.format(client.base_url.netloc.decode()), headers=headers),
            ):
                pass


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://127.0.0.1:8501", True),
        ("https://127.0.0.1:8501", True),
        ("http://127.0.0.1:8600", False),
        ("http://localhost:8501", False),
        ("http://evil.example", False),
        ("http://127.0.0.1:8501.evil.example", False),
        ("null", False),
        ("file://", False),
        (None, True),
    ],
)
def test_pages_of_another_origin_neither_listen_nor_write(origin: str | None, allowed: bool) -> None:
    headers = {"Origin": origin} if origin is not None else {}
    with make_client(LOCAL, "http://127.0.0.1:8501") as client:
        assert client.put("/_stcore/upload_file/a/b", headers=headers).status_code == (200 if allowed else 403)
        if allowed:
            with client.websocket_connect(STREAM.format(client.base_url.netloc.decode()), headers=headers) as socket:
                socket.send_text("you")
                assert socket.receive_text() == "heard you"
        else:
            with (
                pytest.raises(WebSocketDisconnect),
                client.websocket_connect(STREAM.format(client.base_url.netloc.decode()), headers=headers),
            ):
                pass


PATHS = ["/", "/prune?model=x", "/static/js/a.js", "/media/a.png", "/_stcore/host-config", "/_stcore/upload_file/a/b",
         "/component/a", "/_stcore/health/", "//_stcore/health", "/healthz/", "/healthz%20"]  # fmt: skip


STRANGERS: list[dict[str, str]] = [
    {},
    {"Authorization": "Bearer wrong"},
    {"Authorization": f"Basic {TOKEN}"},
    {"Cookie": "explorer-token-80=wrong"},
    {"Cookie": f"explorer-token-80={TOKEN}"},
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", STRANGERS)
def test_without_the_token_nothing_is_served(path: str, headers: dict[str, str]) -> None:
    with make_client(OPEN, "http://lab.example") as client:
        for method in ("GET", "HEAD", "PUT", "OPTIONS"):
            assert client.request(method, f"http://lab.example{path}", headers=headers).status_code == 401
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(STREAM.format(client.base_url.netloc.decode()), headers=headers),
        ):
            pass


def test_the_token_is_given_once_and_kept_in_a_cookie_that_scripts_cannot_read() -> None:
    with make_client(OPEN, "http://lab.example") as client:
        browser = {"Accept": "text/html"}
        wrong = client.get("/prune?mask=a1&token=nearly", headers=browser)
        assert wrong.status_code == 401
        assert "That is not the token" in wrong.text
        assert 'name="mask" value="a1"' in wrong.text
        came = client.get(f"/prune?mask=a1%2Ca2&token={TOKEN}&model=x", headers=browser, follow_redirects=False)
        assert came.status_code == 303
        assert came.headers["location"] == "/prune?mask=a1%2Ca2&model=x"
        set_cookie = came.headers["set-cookie"].lower()
        assert "httponly" in set_cookie
        assert "samesite=lax" in set_cookie
        assert TOKEN not in set_cookie
        assert client.get("/prune").text == "inside"
        with client.websocket_connect(STREAM.format(client.base_url.netloc.decode())) as socket:
            socket.send_text("you")
            assert socket.receive_text() == "heard you"


@pytest.mark.parametrize("kind", ["Bearer", "token", "bearer"])
def test_programs_show_the_token_in_a_header_or_the_query(kind: str) -> None:
    with make_client(OPEN, "http://lab.example") as client:
        assert client.get("/", headers={"Authorization": f"{kind} {TOKEN}"}).text == "inside"
        assert client.get(f"/?token={TOKEN}").text == "inside"
        assert client.get("/").status_code == 401


def test_a_redirect_never_leads_to_another_server() -> None:
    with make_client(OPEN, "http://lab.example") as client:
        for path in ("//evil.example/", "/\\evil.example", "/%5Cevil.example", "/%2F/evil.example"):
            came = client.get(
                f"http://lab.example{path}?token={TOKEN}", headers={"Accept": "text/html"}, follow_redirects=False
            )
            assert came.headers["location"].startswith("/evil.example")


def test_what_a_stranger_asks_for_is_escaped_where_it_is_shown() -> None:
    with make_client(OPEN, "http://lab.example") as client:
        for asked in (client.get("/<script>alert(1)</script>?<b>=<i>"), client.get("/", headers={"Host": "<b>x"})):
            assert not any(tag in asked.text for tag in ("<script>", "<b>", "<i>"))


def test_a_request_from_outside_asks_for_the_token_even_of_a_local_server() -> None:
    """Another ASGI server may have been told to listen elsewhere than the configuration says."""
    assert LOCAL.asks_token("localhost", "192.168.1.7")
    assert not LOCAL.asks_token("localhost", "127.0.0.1")
    assert Door.of("127.0.0.1", {"EXPLORER_ALLOWED_HOSTS": "lab.example"}).asks_token("lab.example", "127.0.0.1")


def test_health_is_told_in_full_to_those_who_may_come_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_sources", [])
    with make_client(OPEN, "http://lab.example") as client:
        assert client.get("/healthz").json() == {"ok": True}
        known = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/healthz", headers=known).json() == {"ok": True, "queued": 0, "busy": False}
        health.report_by(lambda: {"ok": False, "queued": 3, "busy": True})
        ill = client.get("/healthz", headers=known)
        assert (ill.status_code, ill.json()) == (503, {"ok": False, "queued": 3, "busy": True})
        assert client.get("/healthz").json() == {"ok": False}


def test_silent_connections_make_room_for_new_ones_and_spoken_ones_stay() -> None:
    connections = Connections(each=3, most=5, patience=60.0)
    first, second, third = (connections.enter("a") for _ in range(3))
    assert first is not None and second is not None and third is not None  # noqa: PT018
    second.heard = third.heard = True
    fourth = connections.enter("a")
    assert fourth is not None
    assert first.shut.is_set()
    fourth.heard = True
    assert connections.enter("a") is None
    others = [connections.enter(name) for name in "bc"]
    assert len(connections) == 5
    assert connections.enter("d") is not None
    assert others[0] is not None
    assert others[0].shut.is_set()
    connections.leave(second)
    assert connections.enter("a") is not None
    assert len(connections) == 5


def test_what_those_who_left_held_is_freed() -> None:
    class Session:
        def __init__(self) -> None:
            self.itself = self

    async def run() -> None:
        connections = Connections(8, 8, 60.0)
        session = Session()
        held = weakref.ref(session)
        tidying = asyncio.create_task(connections.tidy(pause=0.02))
        connections.leave(connections.enter("a"))  # type: ignore[arg-type]
        del session
        async with asyncio.timeout(60):
            while held() is not None:
                await asyncio.sleep(0.02)
        tidying.cancel()

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()


def test_one_that_says_nothing_is_closed_after_a_while() -> None:
    heard: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            heard.append(message["type"])
            if message["type"] == "websocket.disconnect":
                return

    async def run(messages: list[str], protocols: list[str]) -> int:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for kind in messages:
            queue.put_nowait({"type": kind})
        connections = Connections(8, 8, patience=0.05)
        guard = Guard(app, LOCAL, connections)
        scope = {"type": "websocket", "path": "/", "query_string": b"", "headers": [(b"host", b"localhost")],
                 "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "subprotocols": protocols}  # fmt: skip
        task = asyncio.ensure_future(guard(scope, queue.get, queue.put))
        await asyncio.sleep(0.3)
        open_then = len(connections)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(connections) == 0
        return open_then

    assert asyncio.run(run(["websocket.connect"], ["streamlit", "xsrf"])) == 0
    assert heard == ["websocket.connect", "websocket.disconnect"]
    assert asyncio.run(run(["websocket.connect", "websocket.receive"], ["streamlit", "xsrf"])) == 1
    assert asyncio.run(run(["websocket.connect"], ["streamlit", "xsrf", "a-session"])) == 1


def test_a_line_of_the_log_comes_once_a_minute_and_counts_what_was_held_back() -> None:
    now = [0.0]
    seldom = Seldom(60.0, lambda: now[0])

    def passes(at: float, message: str) -> str | None:
        now[0] = at
        record = logging.LogRecord("x", logging.WARNING, "", 0, message, ("a",), None)
        return record.getMessage() if seldom.filter(record) else None

    assert passes(0, "refused %s") == "refused a"
    assert [passes(at, "refused %s") for at in (1, 2, 59)] == [None] * 3
    assert passes(30, "another %s") == "another a"
    assert passes(61, "refused %s") == "refused a (and 3 more like it)"
    assert passes(62, "refused %s") is None


class _Answers(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"got " + data)  # type: ignore[attr-defined]


def test_who_connects_and_asks_for_nothing_is_closed_and_others_are_served() -> None:
    async def run() -> None:
        arrivals = Arrivals(each=3, most=8, patience=0.3)
        loop = asyncio.get_running_loop()
        arrivals.stand_before(loop)
        server = await loop.create_server(_Answers, "127.0.0.1", 0)
        place = server.sockets[0].getsockname()
        served = await asyncio.open_connection(*place)
        for part in (b"GET / HT", b"TP/1.1\r\nHost: a\r\n\r", b"\n"):
            served[1].write(part)
            await asyncio.sleep(0.02)
        assert await served[0].read(100) == b"got GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        assert len(arrivals) == 0
        silent = [await asyncio.open_connection(*place) for _ in range(3)]
        silent[0][1].write(b"GET / HTTP/1.1\r\nHost: ")
        await asyncio.sleep(0.05)
        assert len(arrivals) == 3
        another = await asyncio.open_connection(*place)  # the first of the silent ones goes for it
        with pytest.raises((ConnectionError, EOFError)):
            await asyncio.wait_for(silent[0][0].readexactly(1), 0.2)
        another[1].write(b"a\r\n\r\n")
        assert await another[0].read(100) == b"got a\r\n\r\n"
        assert len(arrivals) == 2
        for reader, _ in silent[1:]:
            with pytest.raises((ConnectionError, EOFError)):
                await asyncio.wait_for(reader.readexactly(1), 20)
        assert len(arrivals) == 0
        served[1].write(b"still there")
        assert await served[0].read(100) == b"got still there"
        for _, writer in (served, another, *silent):
            writer.close()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0.05)  # for the last of them to be gone

    asyncio.run(run())


def test_strangers_keep_no_connection() -> None:
    with make_client(OPEN, "http://lab.example") as client:
        assert client.get("/").headers["connection"] == "close"
        assert client.get("/healthz").headers["connection"] == "close"
        assert "connection" not in client.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).headers
