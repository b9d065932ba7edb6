"""Deltas in the cache: one file each, under the key of how it was made."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from explorer.deltas import Delta, read_delta, write_delta
from explorer.errors import ModifyError
from explorer.storage.partial_files import written_whole

FOLDER = "deltas"

#: Bytes of deltas that are held in memory, beside the one that was asked for last.
_HELD = 2**30


class DeltaFiles:
    """Stored deltas by key.

    Args:
        cache: folder of the cache; with None they are held in memory only, as far as there is room.
    """

    def __init__(self, cache: Path | None) -> None:
        self._folder = cache and cache / FOLDER
        self._held: OrderedDict[str, Delta] = OrderedDict()

    def find(self, key: str) -> Delta | None:
        """Return a stored delta; None if there is none. A file that does not hold what was stored is removed."""
        if self._folder is not None and key not in self._held and (path := self._path(key)).exists():
            try:
                self._hold(key, read_delta(path))
            except ModifyError:
                path.unlink(missing_ok=True)
        return self._held.get(key)

    def keep(self, key: str, delta: Delta) -> None:
        """Store a delta under a key. Raises ModifyError where the disk is full or not to be written."""
        self._hold(key, delta)
        if self._folder is None:
            return
        try:
            self._folder.mkdir(exist_ok=True)
            with written_whole(self._path(key)) as partial:
                write_delta(partial, delta)
        except OSError as error:
            found = f"{self._folder} ({error.strerror or error})"
            raise ModifyError("Cannot store the delta", found, "Free some space, or name another --cache") from error

    def drop(self, key: str) -> None:
        """Remove what is stored under a key."""
        self._held.pop(key, None)
        if self._folder is not None:
            self._path(key).unlink(missing_ok=True)

    def _hold(self, key: str, delta: Delta) -> None:
        self._held[key] = delta
        while len(self._held) > 1 and sum(each.nbytes for each in self._held.values()) > _HELD:
            self._held.popitem(last=False)

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.safetensors"
