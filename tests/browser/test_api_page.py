"""docs/api.md tells the truth: its Python runs, and its curl, against a real server; and `jobs --watch` beside it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explorer.verbs.request import Request, answer
from tests.support.browser import serve
from tests.support.tiny_models import REPOSITORY, WINDOW, Tiny

PAGE = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
SERVER = "http://127.0.0.1:8501"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


def _shorten(tiny: Tiny, code: str) -> str:
    """The same of a tiny model and short windows; it has four layers."""
    text = {"tokens": 4 * WINDOW, "window": WINDOW}
    options = {"model": {"model": str(tiny.folder("llama")), "dtype": "float32", "device": "cpu"}, "text": text}
    for long, short in (
        ('{"kind": "score", ', '{"kind": "score", ' + json.dumps(options)[1:-1] + ", "),
        ('Request(kind="score", ', f'Request(kind="score", **{options}, '),
        ("10-12", "1-2"),
        ("a25", "a3"),
    ):
        code = code.replace(long, short)
    return code


def test_the_python_runs(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(_shorten(tiny, code), "docs/api.md", "exec"), {"__name__": "page"})
    key, perplexity = capsys.readouterr().out.split()
    assert len(key) == 32
    assert float(perplexity) > 1


def test_the_curl_runs(tiny: Tiny, url: str, tmp_path: Path) -> None:
    post, *others = re.findall(r"^    (curl .*)$", PAGE, re.MULTILINE)
    job = json.loads(_run(_shorten(tiny, post), url))
    assert (job["title"], job["owner"]) == ("score --mask 1-2", "api")
    listed, stream, result, stopped = (_run(command.replace("KEY", job["key"]), url) for command in others)
    assert job["key"] in [each["key"] for each in json.loads(listed)["jobs"]]
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    assert json.loads(events[-1])["state"] == "done"
    assert json.loads(result) == answer(_read(tiny, post), tmp_path)
    assert json.loads(stopped)["state"] == "done"


def _read(tiny: Tiny, post: str) -> Request:
    (body,) = re.findall("-d '(.*?)' ", _shorten(tiny, post))
    return Request.read(body)


def _run(command: str, url: str) -> str:
    assert SERVER in command
    done = subprocess.run(
        ["bash", "-c", command.replace(SERVER, url)], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_jobs_are_watched_to_their_end(tiny: Tiny, url: str) -> None:
    post, *_ = re.findall(r"^    (curl .*)$", PAGE, re.MULTILINE)
    _run(_shorten(tiny, post).replace("1-2", "0"), url)
    command = [sys.executable, "-m", "explorer", "jobs", "--server", url, "--watch", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=True)
    jobs: list[dict[str, Any]] = json.loads(done.stdout)["jobs"]
    assert {(job["title"], job["state"]) for job in jobs} >= {("score --mask 0", "done")}
