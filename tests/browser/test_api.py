"""The HTTP API of a real server: its answers, its stream, its end, and what is known when it was killed."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from explorer.verbs.request import Request
from tests.support.browser import serve
from tests.support.command_line import ask
from tests.support.gates import WAIT
from tests.support.requests import write_request
from tests.support.tiny_models import WINDOW, Tiny

HOW = {"OMP_NUM_THREADS": "1"}


def send(url: str, request: Request, **headers: str) -> dict[str, Any]:
    body = request.model_dump_json().encode()
    headers = {"Content-Type": "application/json"} | headers
    with urllib.request.urlopen(urllib.request.Request(f"{url}/api/requests", body, headers), timeout=60) as answer:
        return json.load(answer)


def follow(url: str, key: str) -> Iterator[dict[str, Any]]:
    """Yield a job's states as they come."""
    with urllib.request.urlopen(f"{url}/api/jobs/{key}?stream=1", timeout=60) as stream:
        for line in stream:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


def fetch(url: str, key: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/results/{key}", timeout=60) as answer:
        return json.load(answer)


def options_of(request: Request) -> dict[str, Any]:
    return {"model": request.model.model, "dtype": "float32", "device": "cpu", "tokens": request.text.tokens,
            "window": WINDOW}  # fmt: skip


def find_server(url: str) -> psutil.Process:
    port = url.rpartition(":")[2]
    (found,) = [each for each in psutil.Process().children() if port in each.cmdline()]
    return found


def test_a_server_answers_as_the_command_line_and_ends_though_somebody_listens(tiny: Tiny, tmp_path: Path) -> None:
    asked = write_request(tiny, "score", {"mask": ["1", "a2"]})
    with serve(EXPLORER_CACHE=str(tmp_path), **HOW) as url:
        with pytest.raises(urllib.error.HTTPError, match="403"):
            send(url, asked, Origin="http://evil.example")
        key = send(url, asked)["key"]
        assert key == asked.key
        states = [each["state"] for each in follow(url, key)]
        assert states[-1] == "done"
        assert fetch(url, key) == ask(options_of(asked), "score", "--mask", "1", "--mask", "a2")
        (listed,) = [job for job in ask({"server": url}, "jobs")["jobs"] if job["key"] == key]
        assert (listed["state"], listed["owner"]) == ("done", "api")
        server = find_server(url)
        with urllib.request.urlopen(f"{url}/api/jobs?stream=1", timeout=60) as stream:
            assert stream.readline() == b"retry: 2000\n"
            server.terminate()
            assert server.wait(WAIT) is not None
            assert stream.read().endswith(b"\n\n")


def count_known(cache: Path) -> int:
    with closing(sqlite3.connect(f"file:{cache / 'scores.sqlite'}?mode=ro", uri=True)) as store:
        return store.execute("SELECT count(*) FROM nll").fetchone()[0]


def test_a_server_that_was_killed_goes_on_where_it_was(tiny: Tiny, tmp_path: Path) -> None:
    asked = write_request(tiny, "interactions", {"unit": "site"}, windows=40)
    with serve(EXPLORER_CACHE=str(tmp_path), **HOW) as url:
        for state in follow(url, send(url, asked)["key"]):
            if state["state"] == "running" and state["done"] > 3:
                break
        find_server(url).kill()
    known = count_known(tmp_path)
    assert known > 0
    with serve(EXPLORER_CACHE=str(tmp_path), **HOW) as url:
        start = time.monotonic()
        key = send(url, asked)["key"]
        assert [each["state"] for each in follow(url, key)][-1] == "done", f"after {time.monotonic() - start:.0f} s"
        assert fetch(url, key) == ask(options_of(asked), "interactions", "--unit", "site")
    assert count_known(tmp_path) > known
