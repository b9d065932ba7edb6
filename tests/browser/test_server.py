"""The server as `streamlit run` starts it: where it listens, what it says, and a flood of silent connections."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect

from explorer.masks.mask import Mask
from tests.support.browser import serve
from tests.support.many_users import TEXT, ask_command_line
from tests.support.protocol import User
from tests.support.tiny_models import Tiny
from ui.parts.number_format import describe_perplexity


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def listens_on(url: str) -> set[str]:
    port = int(url.rpartition(":")[2])
    found = [each for child in psutil.Process().children() for each in child.net_connections("tcp")]
    return {each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN and each.laddr.port == port}


def test_streamlit_run_by_itself_serves_this_machine_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serve(log=log) as url:
        assert listens_on(url) == {"127.0.0.1"}
        assert get(url)[0] == 200
        for path in ("/healthz", "/api/health"):
            health = json.loads(get(url + path)[1])
            assert health.pop("beats_ago") < 10, "the worker is there before the first visitor"
            assert health == {"ok": True, "queued": 0, "busy": False, "kept_bytes": 0}
        assert get(url, Host="evil.example")[0] == 403
        assert get(f"{url}/_stcore/host-config", Host="evil.example")[0] == 403
    assert "token" not in log.read_text()


def test_a_server_that_is_open_asks_for_the_token_that_it_prints(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with serve(log=log, STREAMLIT_SERVER_ADDRESS="0.0.0.0") as url:
        assert listens_on(url) == {"0.0.0.0"}
        status, page = get(url)
        assert status == 401
        assert "asks for its token" in page
        for path in ("/_stcore/host-config", "/static/index.html", "/_stcore/upload_file/a/b"):
            assert get(url + path)[0] == 401
        printed = re.search(r"http://\S+/\?token=(\S+)", log.read_text())
        assert printed is not None
        assert get(url, Authorization=f"Bearer {printed[1]}")[0] == 200
        assert get(f"{url}/healthz") == (200, '{"ok":true}')


async def flood(url: str, websockets: int, halves: int) -> tuple[list[ClientConnection], list[socket.socket]]:
    """Open websockets that say nothing, and connections that begin a request and go no further."""
    address, opened = url.replace("http", "ws") + "/_stcore/stream", []
    for _ in range(websockets):
        try:
            opened.append(await connect(address, subprotocols=["streamlit"], open_timeout=60))  # type: ignore[list-item]
        except (OSError, EOFError, TimeoutError):  # refused
            continue
    begun = []
    for _ in range(halves):
        half = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)
        begun.append(half)
        half.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        await asyncio.sleep(0)
    return opened, begun


def test_silent_connections_lock_nobody_out(tiny: Tiny, tmp_path: Path) -> None:
    model, log = str(tiny.folder("llama")), tmp_path / "log"
    expected = ask_command_line(model, {Mask.parse("none"), Mask.parse("a2")})

    async def run(url: str) -> None:
        opened, begun = await flood(url, 320, 400)
        try:
            async with User(url, model=model, **TEXT) as user:
                for mask, perplexity in expected.items():
                    assert (await user.turn_off(mask, 900))[0] == describe_perplexity(perplexity)
            assert sum(each.state.name == "OPEN" for each in opened) <= 32
        finally:
            for half in begun:
                half.close()
            for each in opened:
                each.transport.abort()
                await each.wait_closed()

    with serve(log=log, descriptors=1024, OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path / "cache")) as url:
        asyncio.run(run(url))
        assert json.loads(get(f"{url}/healthz")[1])["ok"]
    said = log.read_text()
    assert "Too many open files" not in said
    assert len(said.splitlines()) < 50, said


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_another_page_hears_nothing(origin: str) -> None:
    async def run(url: str) -> None:
        address = url.replace("http", "ws") + "/_stcore/stream"
        with pytest.raises(Exception, match="403"):
            await connect(address, subprotocols=["streamlit"], origin=origin, open_timeout=60)  # type: ignore[list-item, arg-type]

    with serve() as url:
        asyncio.run(run(url))
