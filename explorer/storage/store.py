"""cache/: what was computed once. SQLite for scores, files for arrays; `keys` makes every key, of content.

Several processes may share one folder: SQLite locks its own file (write-ahead log), arrays are written beside
their place and renamed.
"""

from __future__ import annotations

import fcntl
import io
import os
import secrets
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from explorer.errors import ExplorerError
from explorer.storage.deltas import FOLDER, DeltaFiles
from explorer.storage.numbers import Numbers
from explorer.storage.partial_files import remove_leftovers, written_whole
from explorer.storage.stars import Stars
from explorer.storage.tables import LAYOUT, OtherLayout, lay_out

_Array = Shaped[np.ndarray, " ..."]
_REMEDY = "Try again, or name another with --cache"


class CacheError(ExplorerError):
    """The cache folder cannot be used."""


class Store(Numbers):
    """Stored results.

    Args:
        folder: where they live, made if missing; with None they are kept in memory only, to be lost at the end.

    Raises:
        CacheError: the folder cannot be made or written.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self.deltas, self.stars = DeltaFiles(folder), Stars(self._read, self._transaction)
        self._arrays: dict[str, dict[str, _Array]] = {}
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise CacheError(
                    "Cannot use the cache folder", f"{folder} ({error.strerror})", "Name another with --cache"
                ) from None
            for name in ("arrays", "models", FOLDER):
                remove_leftovers(folder / name)
        try:
            with self._alone() if folder else nullcontext():
                self._db = self._open()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise CacheError("Cannot read the cache", f"{folder} ({error})", _REMEDY) from error
            self._db = self._renew("could not be read")
        except OtherLayout as other:
            self._db = self._renew(f"has layout {other}, not {LAYOUT}")

    def _open(self) -> sqlite3.Connection:
        target = ":memory:" if self.folder is None else self.folder / "scores.sqlite"
        try:
            if isinstance(target, Path):  # SQLite would make it readable to all, and writable to none but its owner
                os.close(os.open(target, os.O_CREAT | os.O_RDWR, 0o666))
            db = sqlite3.connect(target, timeout=60, check_same_thread=False, isolation_level=None)
        except (OSError, sqlite3.OperationalError) as error:
            found = f"{target} ({error})"
            raise CacheError("Cannot open the cache", found, "Name another folder with --cache") from None
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            lay_out(db)
        except sqlite3.OperationalError as error:
            db.close()
            raise CacheError(
                "Cannot write the cache", f"{target} ({error})", "Name another folder with --cache"
            ) from None
        except (sqlite3.DatabaseError, OtherLayout):
            db.close()
            raise
        return db

    def _renew(self, why: str) -> sqlite3.Connection:
        """Open the database once more, and set it aside first unless another process just did."""
        with self._alone():
            if (whole := self._open_whole()) is not None:
                return whole
            self._set_aside(why)
            return self._open()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from opening the database: SQLite does not wait where one makes a write-ahead log."""
        assert self.folder is not None
        try:
            lock = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            found = f"{self.folder} ({error.strerror})"
            raise CacheError("Cannot open the cache", found, "Name another folder with --cache") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _open_whole(self) -> sqlite3.Connection | None:
        """Open the database if nothing is wrong with it."""
        try:
            db = self._open()
        except (sqlite3.DatabaseError, OtherLayout):
            return None
        with suppress(sqlite3.DatabaseError):
            if db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",):
                return db
        db.close()
        return None

    def _set_aside(self, why: str) -> None:
        assert self.folder is not None
        broken = self.folder / f"broken-{secrets.token_hex(4)}"
        try:
            broken.mkdir()
            for name in ("scores.sqlite", "scores.sqlite-wal", "scores.sqlite-shm"):
                with suppress(FileNotFoundError):
                    os.replace(self.folder / name, broken / name)
        except OSError as error:
            found = f"{self.folder} {why}, and could not be set aside ({error.strerror})"
            raise CacheError("Cannot use the cache", found, "Name another with --cache") from None
        print(f"The cache {why} and was set aside in {broken}; starting an empty one.", file=sys.stderr)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._db.in_transaction:  # of this thread, for it has the lock
                yield self._db
                return
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back()
                raise CacheError("Cannot write the cache", f"{self.folder} ({error})", "Free some space") from error
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def together(self) -> Iterator[None]:
        """Store what is added in the block all at once, or none of it. Other threads wait: compute nothing in it."""
        with self._transaction():
            yield

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def _read(self, query: str, values: tuple) -> list[tuple]:
        """Return a query's rows; a database that turns out damaged is set aside, and has none.

        Raises CacheError where it is whole, but cannot be read now: locked, closed, or on a disk that fails.
        """
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                if self.folder is None or not _is_damage(error):
                    raise CacheError("Cannot read the cache", f"{self.folder} ({error})", _REMEDY) from error
                self._db.close()
                self._db = self._renew("could not be read")
                return []

    def digest(self, path: Path, compute: Callable[[Path], str]) -> str:
        """Return the digest of a file, computed again only when its size or time of change differ."""
        status = path.stat()
        identity = (str(path.resolve()), status.st_size, status.st_mtime_ns)
        for (digest,) in self._read("SELECT digest FROM files WHERE (path, size, mtime_ns) = (?, ?, ?)", identity):
            return digest
        digest = compute(path)
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", (*identity, digest))
        return digest

    def arrays(self, key: str) -> dict[str, _Array] | None:
        """Return stored arrays by name, or None. A file that does not hold what was stored is removed.

        Raises CacheError where there is one that cannot be read now.
        """
        if self.folder is None:
            return self._arrays.get(key)
        path = self.folder / "arrays" / f"{key}.npz"
        try:
            with path.open("rb") as file:
                before, content = os.fstat(file.fileno()), file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CacheError("Cannot read the cache", f"{path} ({error.strerror or error})", _REMEDY) from None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return dict(arrays)
        except MemoryError:
            raise
        except Exception:  # what is no archive fails in as many ways as it has bytes
            with suppress(OSError):
                if os.path.samestat(before, path.stat()):  # it may have been written anew
                    path.unlink()
            return None

    def add_arrays(self, key: str, arrays: Mapping[str, _Array]) -> None:
        """Store named arrays under a key."""
        if self.folder is None:
            self._arrays[key] = dict(arrays)
            return
        folder = self.folder / "arrays"
        try:
            folder.mkdir(exist_ok=True)
            with written_whole(folder / f"{key}.npz") as partial, partial.open("wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
        except OSError as error:
            found = f"{folder} ({error.strerror or error})"
            raise CacheError(
                "Cannot write the cache", found, "Free some space, or name another with --cache"
            ) from error


def _is_damage(error: sqlite3.Error) -> bool:
    """Tell whether an error says that the file is not, or no longer, a database."""
    code = getattr(error, "sqlite_errorcode", None)  # an extended one has the primary one in its low byte
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
