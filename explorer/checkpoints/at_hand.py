"""Folders -> the models that lie in them: the packaged default, the hub's cache, folders of safetensors, GGUF files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from explorer.checkpoints.resolve import DEFAULT_MODEL, find_packaged
from explorer.errors import ModelError

_DEPTH = 3  # folders below a folder
_MOST_FOLDERS = 2000  # that are looked into
_PART = "-of-"  # in the names of files that are parts of a model


@dataclass(frozen=True)
class ModelAtHand:
    """A model that lies on this machine.

    Args:
        name: by which it is loaded.
        bytes: of its weights, as its files hold them.
        modified: when its weights were written, in seconds since 1970.
    """

    name: str
    bytes: int
    modified: float


def list_models(folders: Iterable[Path], skipped: Iterable[Path] = ()) -> list[ModelAtHand]:
    """List the models in folders and a few levels below, the packaged one first, then those written last.

    Nothing is opened: what lacks a config or weights is left out, what is damaged is not.

    Args:
        skipped: folders that are not looked into, such as the cache.
    """
    found: dict[str, ModelAtHand] = {}
    budget = [_MOST_FOLDERS]
    left_out = {path.resolve() for path in skipped}
    for folder in folders:
        for model in _look_into(folder, left_out, budget, _DEPTH):
            found.setdefault(model.name, model)
    return [*_list_packaged(), *sorted(found.values(), key=lambda model: (-model.modified, model.name))]


def _list_packaged() -> Iterator[ModelAtHand]:
    try:
        path = find_packaged()
        yield ModelAtHand(DEFAULT_MODEL, path.stat().st_size, path.stat().st_mtime)
    except (ModelError, OSError):
        return


def _look_into(folder: Path, skipped: set[Path], budget: list[int], depth: int) -> Iterator[ModelAtHand]:
    if folder in skipped or budget[0] <= 0:
        return
    budget[0] -= 1
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    files = {entry.name for entry in entries if not entry.is_dir()}
    weights = [folder / name for name in files if name.endswith(".safetensors")]
    if "config.json" in files and weights:
        yield from _measure(_name(folder), weights)
    for name in sorted(files):
        if name.lower().endswith(".gguf") and _is_first(name):
            rest = name.split(_PART)[0].removesuffix("00001")
            parts = [folder / other for other in files if _PART in other and rest and other.startswith(rest)]
            yield from _measure(_name(folder / name), parts if _PART in name else [folder / name])
    for entry in entries:
        if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
            continue
        if entry.name.startswith("models--"):
            yield from _look_into_repository(Path(entry.path))
        elif depth:
            yield from _look_into(Path(entry.path), skipped, budget, depth - 1)


def _is_first(name: str) -> bool:
    return _PART not in name or name.split(_PART)[0].endswith("00001")


def _look_into_repository(folder: Path) -> Iterator[ModelAtHand]:
    """Yield a repository of the hub's cache, in the revision that its name stands for."""
    try:
        snapshot = folder / "snapshots" / (folder / "refs" / "main").read_text().strip()
    except (OSError, ValueError):
        return
    weights = list(snapshot.glob("*.safetensors"))
    if weights and (snapshot / "config.json").exists():
        yield from _measure("/".join(folder.name.split("--")[1:]), weights)


def _measure(name: str, weights: list[Path]) -> Iterator[ModelAtHand]:
    try:
        found = [path.stat() for path in weights]
    except OSError:
        return
    yield ModelAtHand(name, sum(each.st_size for each in found), max(each.st_mtime for each in found))


def _name(path: Path) -> str:
    """Write a path from the working folder on, where it lies in it."""
    working = Path.cwd()
    return f"./{path.relative_to(working)}" if path.is_relative_to(working) else str(path)
