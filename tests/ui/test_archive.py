"""An export as an archive: whole, made while it is sent, and of nothing but exports."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ui.export.archive import link_archive, send_archive, stream_archive


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of exports with one in it, and folders that are none."""
    monkeypatch.setenv("EXPLORER_EXPORTS", str(tmp_path / "exports"))
    for name in ("exports/mine/smaller é", "exports/other", "exports/.hidden", "outside"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("exports/mine/smaller é", "exports/.hidden", "outside"):
        (tmp_path / name / "recipe.json").write_text("{}")
    (tmp_path / "exports/mine/smaller é/adapter").mkdir()
    (tmp_path / "exports/mine/smaller é/adapter/weights").write_bytes(bytes(range(256)) * 5000)
    (tmp_path / "exports/mine/smaller é/out").symlink_to(tmp_path / "outside/recipe.json")
    return tmp_path / "exports"


def _ask(name: str) -> Any:
    return send_archive(Request({"type": "http", "path_params": {"name": name}}))


def test_an_archive_holds_every_file(exports: Path) -> None:
    answer = _ask("mine/smaller é")
    assert isinstance(answer, StreamingResponse)
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''smaller%20%C3%A9.zip"
    with ZipFile(io.BytesIO(b"".join(stream_archive(exports / "mine/smaller é")))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["smaller é/adapter/weights", "smaller é/recipe.json"]
        assert archive.read("smaller é/adapter/weights") == bytes(range(256)) * 5000


@pytest.mark.parametrize("name", ["other", "nosuch", ".hidden", "../outside", "mine/../../outside", "/etc", ""])
def test_nothing_else_is_sent(exports: Path, name: str) -> None:
    assert _ask(name).status_code == 404


def test_a_page_names_only_what_is_below_the_folder(exports: Path) -> None:
    assert link_archive(exports / "mine/smaller é") == "api/exports/mine/smaller%20%C3%A9.zip"
    assert link_archive(exports.parent / "outside") is None


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(200 << 20)
    tracemalloc.start()
    try:
        size = sum(map(len, stream_archive(tmp_path)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 200 << 20
    assert peak < 10 << 20
