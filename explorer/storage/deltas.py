"""Deltas in the cache: one file each, under the key of how it was made; of a fit that is not finished one a step."""

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
        if self._folder is not None and key not in self._held and (found := _read(self._path(key))) is not None:
            self._hold(key, found)
        return self._held.get(key)

    def keep(self, key: str, delta: Delta) -> None:
        """Store a delta under a key. Raises ModifyError where the disk is full or not to be written."""
        self._hold(key, delta)
        if self._folder is not None:
            _write(self._path(key), delta)

    def steps(self, key: str) -> FitSteps:
        """Return where the steps of a fit are kept until its delta is stored under a key."""
        return FitSteps(self._folder, key)

    def _hold(self, key: str, delta: Delta) -> None:
        self._held[key] = delta
        while len(self._held) > 1 and sum(each.nbytes for each in self._held.values()) > _HELD:
            self._held.popitem(last=False)

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.safetensors"


class FitSteps:
    """What the finished steps of a fit made: a fit that was stopped, or killed, goes on after them.

    Args:
        folder: of the files; with None nothing is kept.
        key: of the delta that the fit makes.
    """

    def __init__(self, folder: Path | None, key: str = "") -> None:
        self._folder, self._key = folder, key

    def find(self, step: int) -> Delta | None:
        """Return what a step made; None if it has not been finished."""
        return None if self._folder is None else _read(self._folder / f"{self._key}.{step}.safetensors")

    def join(self) -> Delta | None:
        """Return a delta of the steps that were finished, up to the first that was not; None if there are none."""
        found = list[Delta]()
        while (made := self.find(len(found))) is not None:
            found.append(made)
        weights = {layer: named for made in found for layer, named in made.weights.items()}
        stand_ins = {place: each for made in found for place, each in made.stand_ins.items()}
        return Delta(found[0].origin, weights, stand_ins) if found else None

    def keep(self, step: int, made: Delta) -> None:
        """Store what a step made. Raises ModifyError where the disk is full or not to be written."""
        if self._folder is not None:
            _write(self._folder / f"{self._key}.{step}.safetensors", made)

    def remove(self) -> None:
        """Let go of all steps: the delta is whole."""
        if self._folder is not None:
            for path in self._folder.glob(f"{self._key}.*.safetensors"):
                path.unlink(missing_ok=True)


def _read(path: Path) -> Delta | None:
    """Read a delta; None if there is none. A file that does not hold what was stored is removed."""
    if not path.exists():
        return None
    try:
        return read_delta(path)
    except ModifyError:
        path.unlink(missing_ok=True)
        return None


def _write(path: Path, delta: Delta) -> None:
    """Write a delta. Raises ModifyError where the disk is full or not to be written."""
    try:
        path.parent.mkdir(exist_ok=True)
        with written_whole(path) as partial:
            write_delta(partial, delta)
    except OSError as error:
        found = f"{path.parent} ({error.strerror or error})"
        raise ModifyError("Cannot store the delta", found, "Free some space, or name another --cache") from error
