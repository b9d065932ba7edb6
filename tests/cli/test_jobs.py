"""`jobs`: what it says of a dashboard's jobs, and where none answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.tiny_models import REPOSITORY

JOB = {"key": "k1", "title": "score --mask 1", "owner": "api", "state": "running", "done": 1, "total": 4,
       "what": "Scoring", "left": 12.0, "stoppable": True, "error": None}  # fmt: skip
ENDED = JOB | {"key": "k0", "state": "failed", "left": None, "error": "No such text."}


class Dashboard(BaseHTTPRequestHandler):
    """Answers as the HTTP API does: the job runs at the first look, and is done at the next, or in the stream."""

    looks = 0
    cut = False  # whether the first stream ends before the job
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self._note()
        if self.path.endswith("?stream=1"):
            return self._stream()
        Dashboard.looks += 1
        job = JOB if Dashboard.looks == 1 else JOB | {"state": "done", "left": None}
        self._tell(200, {"jobs": [job, ENDED]})

    def _stream(self) -> None:
        self.send_response(200)
        self.end_headers()
        events = [ENDED, JOB, JOB | {"done": 2}] + ([] if Dashboard.cut else [JOB | {"state": "done", "left": None}])
        self.wfile.write(b"retry: 2000\n\n: still here\n\n")
        for event in events:
            self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()
        if not Dashboard.cut:  # an open stream: only what was read may end it
            self.rfile.read(1)

    def do_DELETE(self) -> None:
        self._note()
        self._tell(409, {"error": "The job is not stopped: a browser waits for it. Stop it there."})

    def _note(self) -> None:
        Dashboard.asked.append((f"{self.command} {self.path}", self.headers["Authorization"]))

    def _tell(self, status: int, told: Any) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Dashboard.looks, Dashboard.asked, Dashboard.cut = 0, [], False
    with ThreadingHTTPServer(("127.0.0.1", 0), Dashboard) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "explorer", "jobs", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)


def test_jobs_are_listed_with_what_is_left_and_why_one_failed(url: str) -> None:
    done = run("--server", url, "--token", "secret")
    assert done.stdout.splitlines() == [
        "state       done    left  for       key                               what",
        "running      25%    12 s  a program k1                                score --mask 1",
        "failed                    a program k0                                score --mask 1: No such text.",
    ]
    assert Dashboard.asked == [("GET /api/jobs", "Bearer secret")]


@pytest.mark.parametrize("cut", [False, True])
def test_they_are_followed_until_none_is_left(url: str, cut: bool) -> None:
    Dashboard.cut = cut
    done = run("--server", url, "--watch", "--json")
    assert json.loads(done.stdout) == {
        "server": url,
        "jobs": [JOB | {"state": "done", "left": None}, ENDED],
    }
    assert [path for path, _ in Dashboard.asked] == ["GET /api/jobs", "GET /api/jobs?stream=1", "GET /api/jobs"]


def test_what_is_refused_and_where_nobody_answers_is_a_line(url: str) -> None:
    done = run("--server", url, "--cancel", "a/b")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: The dashboard refuses: The job is not stopped: a browser waits for it")
    assert Dashboard.asked == [("DELETE /api/jobs/a%2Fb", None)]
    done = run("--server", "http://127.0.0.1:9")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: No dashboard answers: http://127.0.0.1:9 (")
    done = run("--server", "file:///etc/passwd")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: No address of a dashboard: 'file:///etc/passwd'.")
