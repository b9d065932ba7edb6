"""The models in folders: which are found, by which names, how large."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from explorer.checkpoints import at_hand
from explorer.checkpoints.at_hand import list_models
from explorer.checkpoints.resolve import DEFAULT_MODEL


def _write(path: Path, size: int, at: float = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    if at:
        os.utime(path, (at, at))


def _put_model(folder: Path, size: int, at: float) -> None:
    _write(folder / "config.json", 2)
    _write(folder / "model.safetensors", size, at)


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with a model of each kind, and what looks like one."""
    _put_model(tmp_path / "old", 10, 1000)
    _put_model(tmp_path / "deep" / "er" / "new", 20, 3000)
    _write(tmp_path / "one.gguf", 5, 2000)
    for part in (1, 2):
        _write(tmp_path / f"split-0000{part}-of-00002.gguf", 7, 1500)
    hub = tmp_path / "hub" / "models--owner--name"
    _put_model(hub / "snapshots" / "c0ffee", 30, 500)
    _put_model(hub / "snapshots" / "earlier", 31, 400)
    _write(hub / "refs" / "main", 0)
    (hub / "refs" / "main").write_text("c0ffee")
    _write(tmp_path / "weights" / "model.safetensors", 1)  # no config
    _put_model(tmp_path / ".hidden" / "model", 1, 1)
    _put_model(tmp_path / "cache" / "models" / "made", 1, 1)
    (tmp_path / "loop").symlink_to(tmp_path)
    return tmp_path


def test_models_are_found_with_size_and_date_the_last_first(shelf: Path) -> None:
    found = [model for model in list_models([shelf], [shelf / "cache"]) if model.name != DEFAULT_MODEL]
    assert [(model.name, model.bytes, model.modified) for model in found] == [
        (str(shelf / "deep/er/new"), 20, 3000),
        (str(shelf / "one.gguf"), 5, 2000),
        (str(shelf / "split-00001-of-00002.gguf"), 14, 1500),
        (str(shelf / "old"), 10, 1000),
        ("owner/name", 30, 500),
    ]


def test_names_are_short_below_the_working_folder(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shelf)
    assert "./old" in [model.name for model in list_models([shelf])]


def test_the_packaged_model_comes_first(shelf: Path) -> None:
    assert list_models([shelf])[0].name == DEFAULT_MODEL


def test_no_more_than_so_many_folders_are_looked_into(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at_hand, "_MOST_FOLDERS", 1)
    assert {Path(model.name).suffix for model in list_models([shelf]) if model.name != DEFAULT_MODEL} == {".gguf"}


def test_a_folder_that_is_not_there_has_no_models(tmp_path: Path) -> None:
    assert [model.name for model in list_models([tmp_path / "none"])] == [DEFAULT_MODEL]
