"""What cache/ holds, how large and how long unused; and which of it goes, by age and by size."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from explorer.byte_units import BYTES
from explorer.errors import ExplorerError
from explorer.paths import TRAINING
from explorer.storage.deltas import FOLDER
from explorer.storage.partial_files import make_partial

_AGES = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_TABLES = ("nll", "divergences", "stars")

#: What nobody can compute anew: it stays where scores go.
_KEPT = ("stars", "asked")


Kind = Literal["model", "arrays", "delta", "training", "scores", "set aside"]


class EvictionError(ExplorerError):
    """What is to go cannot be told, or does not go."""


@dataclass(frozen=True)
class Holding:
    """One thing in the cache.

    Args:
        kind: a converted model, arrays of one measurement or plan, a delta, checkpoints of a training, the database of
            scores, or one set aside.
        path: the folder or file.
        bytes: on the disk.
        used: when it was last written or read, in seconds since 1970; reading may be noted but once a day.
    """

    kind: Kind
    path: Path
    bytes: int
    used: float


def take_stock(cache: Path) -> list[Holding]:
    """List what a cache folder holds; nothing where there is none."""
    found = [_weigh("model", path) for path in _visible(cache / "models")]
    found += [_weigh("arrays", path) for path in _visible(cache / "arrays") if path.suffix == ".npz"]
    found += [_weigh("delta", path) for path in _visible(cache / FOLDER) if path.suffix == ".safetensors"]
    found += [_weigh("training", path) for path in _visible(cache / TRAINING)]
    found += [_weigh("set aside", path) for path in _visible(cache) if path.name.startswith("broken-")]
    scores = cache / "scores.sqlite"
    return found + ([_weigh("scores", scores)] if os.path.isfile(scores) else [])


def count_rows(cache: Path) -> dict[str, int]:
    """Count the rows of each table of scores; none where the database cannot be read."""
    path = cache / "scores.sqlite"
    if not os.path.isfile(path):
        return dict.fromkeys(_TABLES, 0)
    with suppress(sqlite3.Error), closing(sqlite3.connect(path, timeout=10)) as db:
        there = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        count = "SELECT count(*) FROM {}"
        return {name: db.execute(count.format(name)).fetchone()[0] if name in there else 0 for name in _TABLES}
    return {}


def choose_evicted(
    holdings: list[Holding], older_than: float | None, larger_than: float | None, now: float
) -> list[Holding]:
    """Return what has to go, the longest unused first, scores after all else.

    Args:
        older_than: seconds; what was not used for longer goes.
        larger_than: bytes; things go until the rest is no larger.
        now: the time, in seconds since 1970.
    """
    order = sorted(holdings, key=lambda each: (each.kind == "scores", each.used))
    gone = [each for each in order if older_than is not None and now - each.used > older_than]
    left = sum(each.bytes for each in holdings) - sum(each.bytes for each in gone)
    for each in order if larger_than is not None else ():
        if left > larger_than and each not in gone:  # type: ignore[operator]
            gone.append(each)
            left -= each.bytes
    return gone


def evict(holdings: list[Holding]) -> None:
    """Let things go. A process that has a model's files open keeps them until it ends. Raises EvictionError."""
    for each in holdings:
        try:
            if each.kind == "scores":
                _empty(each.path)
            elif each.path.is_dir():
                _remove_folder(each.path)
            else:
                each.path.unlink(missing_ok=True)
        except OSError as error:
            raise EvictionError("Cannot evict", f"{each.path} ({error.strerror})", "Look at its permissions") from None
        except sqlite3.Error as error:
            raise EvictionError("Cannot evict", f"{each.path} ({error})", "Try again when nobody writes") from None


def read_age(text: str) -> float:
    """Read `90m`, `12h`, `30d` or `8w` as seconds. Raises EvictionError."""
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)([mhdw])", text.strip())
    if match is None:
        raise EvictionError("Malformed age", repr(text), "Write a number and m, h, d or w, such as 30d")
    return float(match[1]) * _AGES[match[2]]


def read_size(text: str) -> float:
    """Read `500MB` or `5GiB` as bytes. Raises EvictionError."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([A-Za-z]+)", text.strip())
    if match is None or match[2] not in BYTES:
        raise EvictionError("Malformed size", repr(text), "Write a number and a unit, such as 5GB or 500MiB")
    return float(match[1]) * BYTES[match[2]]


def _visible(folder: Path) -> list[Path]:
    """List a folder without what is still being written, or is no folder or file of its own."""
    with suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.name[0] != "." and not path.is_symlink())
    return []


def _weigh(kind: Kind, path: Path) -> Holding:
    size, used = 0, 0.0
    for file in _files(kind, path):
        with suppress(OSError):  # it went meanwhile
            status = file.lstat()
            size += status.st_size
            used = max(used, status.st_mtime, status.st_atime)
    return Holding(kind, path, size, used or time.time())


def _files(kind: str, path: Path) -> Iterator[Path]:
    if kind == "scores":
        yield from (path.with_name(path.name + end) for end in ("", "-wal", "-shm"))
    elif path.is_dir():
        yield from (file for file in path.rglob("*") if not file.is_dir())
    else:
        yield path


def _remove_folder(folder: Path) -> None:
    """Rename a folder first, so that nobody meets half of it; the name is that of what a killed process left."""
    place, lock = make_partial(folder.parent, folder=True)
    try:
        os.replace(folder, place / folder.name)
        shutil.rmtree(place)
    finally:
        os.close(lock)


def _empty(database: Path) -> None:
    """Empty the tables but for those that are kept; the file itself stays, other processes may have it open."""
    with closing(sqlite3.connect(database, timeout=10, isolation_level=None)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if table not in _KEPT:
                db.execute(f'DELETE FROM "{table}"')
        db.execute("VACUUM")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
