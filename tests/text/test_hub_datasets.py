"""Data sets of the hub: their rows, from a hub of our own, and no request where their descriptions point to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from explorer.errors import TextError
from explorer.text.hub_datasets import is_inside, list_files, stream_rows
from tests.support.tiny_models import REPOSITORY

SHA = "0123456789abcdef0123456789abcdef01234567"
ROWS = "".join(json.dumps({"text": f"row {number}"}) + "\n" for number in range(3))


@contextmanager
def serve(files: dict[str, str], seen: list[str]) -> Iterator[str]:
    """Play the hub with one data set, org/data; note every path that is asked for."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer()

        do_GET = do_POST = do_HEAD  # noqa: N815

        def _answer(self) -> None:
            seen.append(self.path)
            path = self.path.partition("?")[0]
            if self.command == "POST":
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
            name = path.partition(f"/datasets/org/data/resolve/{SHA}/")[2]
            tree = [{"type": "file", "path": name, "size": len(text), "oid": "0" * 40} for name, text in files.items()]
            siblings = [{"rfilename": name} for name in files]
            info = {"_id": "1", "id": "org/data", "sha": SHA, "siblings": siblings, "tags": [], "private": False,
                    "gated": False, "downloads": 0, "likes": 0}  # fmt: skip
            if name in files:
                self._send(files[name].encode(), {"X-Repo-Commit": SHA, "ETag": f'"{len(files[name])}"'})
            elif path in ("/api/datasets/org/data", f"/api/datasets/org/data/revision/{SHA}"):
                self._send(json.dumps(info).encode(), {})
            elif path.startswith(tuple(f"/api/datasets/org/data/{kind}/{SHA}" for kind in ("tree", "paths-info"))):
                self._send(json.dumps(tree).encode(), {})
            else:
                self._send(b"", {"X-Error-Code": "EntryNotFound"}, 404)

        def _send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
            self.send_response(status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


READ = """
import json, sys
from explorer.errors import TextError
from explorer.text.sources import find_text
try:
    print(json.dumps("".join(find_text("hf:org/data", str).calibration()).split("\\n\\n")))
except TextError as error:
    print(json.dumps(str(error)))
"""
READ_BY_DATASETS = """
import datasets
print([row["text"] for row in datasets.load_dataset("org/data", split="train", streaming=True)])
"""


def run(script: str, endpoint: str, home: Path) -> str:
    """Run a script that may ask the hub at an address, and nothing through a proxy."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    online = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0",
              "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, env={**kept, **online}, capture_output=True, text=True
    )
    return found.stdout + found.stderr


def test_rows_of_the_hub_are_read(tmp_path: Path) -> None:
    readme = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: '*.jsonl'\n---\n"
    with serve({"README.md": readme, "a.jsonl": ROWS}, []) as hub:
        found = run(READ, hub, tmp_path)
    assert json.loads(found.splitlines()[-1] if found.strip() else "null") == ["row 0", "row 1", "row 2"], found


def test_a_description_leads_to_no_other_host(tmp_path: Path) -> None:
    asked: list[str] = []
    with serve({}, asked) as elsewhere:
        readme = f"---\nconfigs:\n- config_name: default\n  data_files: {elsewhere}/drive.google.com/a.jsonl\n---\n"
        with serve({"README.md": readme, "a.jsonl": ROWS}, []) as hub:
            found = run(READ, hub, tmp_path / "one")
            assert "leads elsewhere" in found
            assert elsewhere in found
            assert asked == []
            run(READ_BY_DATASETS, hub, tmp_path / "two")
            assert asked  # the library would have asked, for such a name even without what it needs for others
    assert len(json.loads(found.splitlines()[-1]).splitlines()) == 1


def test_a_description_leads_to_no_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text(json.dumps({"text": "nobody may read this"}) + "\n")
    yaml = f"configs:\n- config_name: default\n  data_files: {tmp_path}/secret.jsonl\n"
    with serve({".huggingface.yaml": yaml, "README.md": "nothing", "a.jsonl": ROWS}, []) as hub:
        found = run(READ, hub, tmp_path / "home")
    assert "leads elsewhere" in found
    assert "nobody may read this" not in found


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ("data/*.jsonl", True),
        ("**", True),
        ("a..b/c", True),
        ("hf://datasets/org/other@main/a.parquet", True),
        ("https://hub.example/datasets/org/other/resolve/main/a.parquet", True),
        ("https://hub.example.evil.example/datasets/a", False),
        ("https://evil.example/a", False),
        ("HTTP://evil.example/a", False),
        ("http:evil.example", False),
        ("//evil.example/a", False),
        ("s3://bucket/a", False),
        ("file:///etc/passwd", False),
        ("zip://*.csv::https://evil.example/a.zip", False),
        ("a.zip::https://evil.example/a.zip", False),
        ("hf://datasets/https://evil.example/a", False),
        ("https://hub.example/datasets/a::https://evil.example/a", False),
        ("hf://spaces/a/b", False),
        ("/etc/passwd", False),
        ("~/a", False),
        ("../../etc/passwd", False),
        ("data/../../a", False),
        ("http://[", False),
    ],
)
def test_files_inside_and_outside_of_the_hub(given: str, inside: bool) -> None:
    assert is_inside(given, "https://hub.example") == inside


def test_files_are_found_in_every_form_of_a_description() -> None:
    configs = [
        {"config_name": "a", "data_files": "one"},
        {"data_files": ["two", "three"]},
        {"data_files": {"train": ["four"], "test": "five"}},
        {"data_files": [{"split": "train", "path": ["six"]}, {"split": "test", "path": "seven"}]},
        {"data_dir": "eight"},
        "none",
    ]
    found = set(list_files({"configs": configs}))
    assert {"one", "two", "three", "four", "five", "six", "seven", "eight"} <= found
    assert list_files({"configs": "x"}) == list_files({}) == list_files(None) == []


@pytest.mark.parametrize("name", ["csv", "json", "text"])
def test_a_reader_of_the_library_is_not_taken_for_a_data_set(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.csv").write_text("text\nnobody may read this\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TextError, match="Not a data set of the hub"):
        list(stream_rows(name, None, "train"))


@pytest.mark.parametrize("name", ["../no", "/no", "~/no", "a/b/c", "a\0b", "./" + "a" * 5000])
def test_a_folder_that_is_not_there_is_said_in_a_line(name: str) -> None:
    with pytest.raises(TextError) as caught:
        list(stream_rows(name, None, "train"))
    assert len(str(caught.value).splitlines()) == 1


def test_a_folders_description_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text(ROWS)
    (tmp_path / "set").mkdir()
    (tmp_path / "set/a.jsonl").write_text(ROWS)
    assert [row["text"] for row in stream_rows(f"{tmp_path}/set", None, "train")] == ["row 0", "row 1", "row 2"]
    readme = f"---\nconfigs:\n- config_name: default\n  data_files: {tmp_path}/secret.jsonl\n---\n"
    (tmp_path / "set/README.md").write_text(readme)
    with pytest.raises(TextError, match="leads elsewhere"):
        list(stream_rows(f"{tmp_path}/set", None, "train"))


def test_a_folder_with_the_name_of_a_data_set_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org/data").mkdir(parents=True)
    (tmp_path / "org/data/train.csv").write_text("text\nnobody may read this\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match="org/data"):
        print(list(stream_rows("org/data", None, "train")))
