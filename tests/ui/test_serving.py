"""Who may come in: hosts, origins, the token."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from ui.serving.connections import Connections
from ui.serving.door import Door, read_host
from ui.serving.guard import Guard
from ui.serving.health import Health, telling_health

STREAM = "ws://{}/_stcore/stream"  # the client itself would ask another host
TOKEN = "the-token-of-this-test"
LOCAL = Door.of("127.0.0.1", {})
OPEN = Door.of("0.0.0.0", {"EXPLORER_TOKEN": TOKEN, "EXPLORER_ALLOWED_HOSTS": "lab.example, other.example"})


async def _say(socket: WebSocket) -> None:
    await socket.accept()
    async for word in socket.iter_text():
        await socket.send_text(f"heard {word}")


HEALTH: Health = {"ok": True, "queued": 0, "busy": False}


def make_client(door: Door, url: str, health: Health = HEALTH) -> TestClient:
    """A client of a guarded application that answers to everything."""
    tell_health = telling_health(lambda: health)
    routes = [
        Route("/healthz", tell_health),
        Route("/api/health", tell_health),
        Route("/{path:path}", lambda request: PlainTextResponse("inside"), methods=["GET", "PUT"]),
        WebSocketRoute("/_stcore/stream", _say),
    ]
    guard = Middleware(Guard, door=door, connections=Connections(8, 8, 60.0))
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


@pytest.mark.parametrize("path", ["/healthz", "/api/health"])
def test_health_is_told_in_full_to_those_who_may_come_in(path: str) -> None:
    ill: Health = {"ok": False, "queued": 3, "busy": True}
    known = {"Authorization": f"Bearer {TOKEN}"}
    for health, status in ((HEALTH, 200), (ill, 503)):
        with make_client(OPEN, "http://lab.example", health) as client:
            stranger, told = client.get(path), client.get(path, headers=known)
            assert (stranger.status_code, stranger.json()) == (status, {"ok": health["ok"]})
            assert (told.status_code, told.json()) == (status, health)


def test_strangers_keep_no_connection() -> None:
    with make_client(OPEN, "http://lab.example") as client:
        assert client.get("/").headers["connection"] == "close"
        assert client.get("/healthz").headers["connection"] == "close"
        assert "connection" not in client.get("/", headers={"Authorization": f"Bearer {TOKEN}"}).headers
