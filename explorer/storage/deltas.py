"""Deltas in the cache: one file each, under the key of how it was made."""

from __future__ import annotations

from pathlib import Path

from explorer.deltas import Delta, read_delta, write_delta
from explorer.errors import ModifyError
from explorer.storage.partial_files import written_whole

FOLDER = "deltas"


class DeltaFiles:
    """Stored deltas by key.

    Args:
        cache: folder of the cache; with None they are kept in memory only.
    """

    def __init__(self, cache: Path | None) -> None:
        self._folder = cache and cache / FOLDER
        self._kept: dict[str, Delta] = {}

    def find(self, key: str) -> Delta | None:
        """Return a stored delta; None if there is none. A file that does not hold what was stored is removed."""
        if self._folder is not None and key not in self._kept and (path := self._path(key)).exists():
            try:
                self._kept[key] = read_delta(path)
            except ModifyError:
                path.unlink(missing_ok=True)
        return self._kept.get(key)

    def keep(self, key: str, delta: Delta) -> None:
        """Store a delta under a key. Raises ModifyError where the disk is full or not to be written."""
        self._kept[key] = delta
        if self._folder is None:
            return
        try:
            self._folder.mkdir(exist_ok=True)
            with written_whole(self._path(key)) as partial:
                write_delta(partial, delta)
        except OSError as error:
            found = f"{self._folder} ({error.strerror or error})"
            raise ModifyError("Cannot store the delta", found, "Free some space, or name another --cache") from error

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.safetensors"
