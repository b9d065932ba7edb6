"""A cache that cannot be used now is no damaged one: nothing that is whole is set aside or deleted."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.storage.partial_files import make_partial, remove_leftovers
from explorer.storage.store import CacheError, Store
from tests.support.processes import CONTEXT

ROWS = [(f"window {n}", "none", float(n)) for n in range(2000)]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path)
    store.add_nll("c", ROWS)
    store.add_arrays("key", {"a": np.arange(3)})
    yield store
    store.close()


class Failing:
    """A connection that fails as SQLite does, with a code."""

    def __init__(self, db: sqlite3.Connection, code: int, kind: type[sqlite3.Error], words: str) -> None:
        self._db, self._error = db, kind(words)
        self._error.sqlite_errorcode = code  # type: ignore[misc]

    def execute(self, *args: Any) -> None:
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def is_whole(folder: Path) -> bool:
    """See that nothing was set aside, and that all that was stored is still there."""
    with closing(Store(folder)) as store:
        return not list(folder.glob("broken-*")) and len(store.nll("c", [w for w, *_ in ROWS], "none")) == len(ROWS)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (sqlite3.SQLITE_BUSY, sqlite3.OperationalError, "database is locked"),
        (sqlite3.SQLITE_LOCKED | 1 << 8, sqlite3.OperationalError, "database table is locked"),
        (sqlite3.SQLITE_IOERR | 1 << 8, sqlite3.OperationalError, "disk I/O error"),
        (sqlite3.SQLITE_IOERR | 2 << 8, sqlite3.DatabaseError, "disk I/O error"),
        (sqlite3.SQLITE_CANTOPEN, sqlite3.OperationalError, "unable to open database file"),
        (sqlite3.SQLITE_PROTOCOL, sqlite3.OperationalError, "locking protocol"),
        (sqlite3.SQLITE_NOMEM, sqlite3.DatabaseError, "out of memory"),
        (sqlite3.SQLITE_FULL, sqlite3.OperationalError, "database or disk is full"),
    ],
)
def test_what_is_no_damage_is_told_and_sets_nothing_aside(
    kept: Store, code: int, kind: type[sqlite3.Error], words: str
) -> None:
    db = kept._db
    kept._db = Failing(db, code, kind, words)  # type: ignore[assignment]
    with pytest.raises(CacheError, match=words):
        kept.nll("c", ["window 5"], "none")
    kept._db = db
    assert kept.nll("c", ["window 5"], "none") == {"window 5": 5.0}
    assert kept.folder is not None
    assert is_whole(kept.folder)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CORRUPT | 3 << 8, sqlite3.SQLITE_NOTADB])
def test_what_only_seemed_damaged_is_opened_again(kept: Store, code: int) -> None:
    """As where another process has put a new database in the place of the damaged one."""
    kept._db = Failing(kept._db, code, sqlite3.DatabaseError, "malformed")  # type: ignore[assignment]
    assert kept.nll("c", ["window 5"], "none") == {}
    assert kept.nll("c", ["window 5"], "none") == {"window 5": 5.0}
    assert kept.folder is not None
    assert is_whole(kept.folder)


def test_two_stores_that_meet_one_damage_set_aside_once(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.add_nll("c", ROWS)
    first._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = tmp_path / "scores.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    for store in (first, second):
        store._db.execute("PRAGMA shrink_memory")
    first.nll("c", ["window 5"], "none")
    first.add_nll("c", ROWS)
    second.nll("c", ["window 5"], "none")
    assert second.nll("c", ["window 5"], "none") == {"window 5": 5.0}
    assert len(list(tmp_path.glob("broken-*"))) == 1
    first.close()
    second.close()


def test_a_closed_cache_says_so_and_is_left_alone(kept: Store) -> None:
    kept.close()
    with pytest.raises(CacheError, match="closed"):
        kept.nll("c", ["window 5"], "none")
    assert kept.folder is not None
    assert is_whole(kept.folder)


def test_a_cache_that_is_locked_when_it_is_opened_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(tmp_path).close()
    connect = sqlite3.connect
    with closing(connect(tmp_path / "scores.sqlite", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(
            "explorer.storage.store.sqlite3.connect", lambda *a, **o: connect(*a, **{**o, "timeout": 0.1})
        )
        with pytest.raises(CacheError, match="locked"):
            Store(tmp_path)
        other.execute("ROLLBACK")
    Store(tmp_path).close()
    assert not list(tmp_path.glob("broken-*"))


def test_an_array_that_cannot_be_read_now_is_kept(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept.folder is not None
    path = kept.folder / "arrays" / "key.npz"
    whole, opened = path.read_bytes(), Path.open

    for error in (PermissionError(13, "Permission denied"), OSError(5, "Input/output error"), OSError(24, "Too many")):

        def fail(self: Path, *args: Any, error: OSError = error, **options: Any) -> Any:
            if self == path:
                raise error
            return opened(self, *args, **options)

        monkeypatch.setattr(Path, "open", fail)
        with pytest.raises(CacheError, match=str(error.strerror)):
            kept.arrays("key")
        monkeypatch.undo()
        assert path.read_bytes() == whole
    path.rename(path.with_suffix(".kept"))
    path.mkdir()
    with pytest.raises(CacheError, match="directory"):
        kept.arrays("key")


def test_memory_that_runs_out_deletes_nothing(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("explorer.storage.store.np.load", fail)
    with pytest.raises(MemoryError):
        kept.arrays("key")
    monkeypatch.undo()
    assert (kept.arrays("key") or {})["a"].tolist() == [0, 1, 2]


def test_a_damaged_array_that_was_written_anew_meanwhile_is_kept(kept: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept.folder is not None
    path, load = kept.folder / "arrays" / "key.npz", np.load
    whole = path.read_bytes()
    path.write_bytes(whole[:50])

    def meanwhile(*args: Any, **options: Any) -> Any:
        path.with_suffix(".new").write_bytes(whole)
        os.replace(path.with_suffix(".new"), path)
        return load(*args, **options)

    monkeypatch.setattr("explorer.storage.store.np.load", meanwhile)
    assert kept.arrays("key") is None
    monkeypatch.undo()
    assert (kept.arrays("key") or {})["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("cut", [0, 1, 30, 200, -1])
def test_what_does_not_decode_is_removed(kept: Store, cut: int) -> None:
    assert kept.folder is not None
    path = kept.folder / "arrays" / "key.npz"
    path.write_bytes(path.read_bytes()[:cut])
    assert kept.arrays("key") is None
    assert not path.exists()


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with closing(Store(tmp_path / "cache")) as store:
            store.add_nll("c", ROWS[:1])
            store.add_arrays("key", {"a": np.arange(3)})
        (tmp_path / "cache" / "scores.sqlite").write_bytes(b"no database" * 999)
        Store(tmp_path / "cache").close()
    finally:
        os.umask(before)
    for path in (tmp_path / "cache").rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        if "broken" not in str(path.parent):
            assert stat.S_IMODE(path.stat().st_mode) == expected, path


def _leave(parent: Path, folder: bool, made: Any, go_on: Any) -> None:
    path, _ = make_partial(parent, folder)
    if folder:
        (path / "weights").write_text("half")
    made.set()
    go_on.wait(60)
    os._exit(9)


@pytest.mark.parametrize("folder", [False, True])
def test_leftovers_go_when_who_wrote_them_is_dead_and_not_before(tmp_path: Path, folder: bool) -> None:
    places = tmp_path / "arrays", tmp_path / "models"
    for place in places:
        place.mkdir()
    made, go_on = CONTEXT.Event(), CONTEXT.Event()
    writer = CONTEXT.Process(target=_leave, args=(places[folder], folder, made, go_on))
    writer.start()
    assert made.wait(60)
    (tmp_path / "arrays" / "x.npz").write_bytes(b"")
    (tmp_path / "arrays" / "tmpabc.partial").write_bytes(b"of an older version")
    Store(tmp_path).close()
    assert len(list(places[folder].glob(".partial-*"))) == 1, "it is still being written"
    assert [path.name for path in (tmp_path / "arrays").glob("[!.]*")] == ["x.npz"]
    go_on.set()
    writer.join()
    Store(tmp_path).close()
    assert not list(places[folder].glob(".partial-*"))


def test_many_write_and_clear_at_once(tmp_path: Path) -> None:
    stop, lost = threading.Event(), []

    def clear() -> None:
        while not stop.is_set():
            remove_leftovers(tmp_path)

    cleaner = threading.Thread(target=clear)
    cleaner.start()
    for _ in range(300):
        path, lock = make_partial(tmp_path)
        if not path.exists():
            lost.append(path)
        path.unlink(missing_ok=True)
        os.close(lock)
    stop.set()
    cleaner.join()
    assert lost == []
