"""What is being written into the cache is held by a lock that ends with its process; what nobody holds goes."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MARK = ".partial-"


def make_partial(parent: Path, folder: bool = False) -> tuple[Path, int]:
    """Make a hidden file or folder to write in, with modes as the umask says; return it with its lock held.

    Close the lock when it has been renamed or removed.
    """
    while True:
        path = parent / f"{_MARK}{secrets.token_hex(8)}"
        if folder:
            path.mkdir()
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        with suppress(FileNotFoundError):  # another process took it for a leftover before it was locked
            lock = os.open(path, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists():
                return path, lock
            os.close(lock)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a file to write to that takes the target's place if the block succeeds, and goes if it fails."""
    partial, lock = make_partial(target.parent)
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
        os.close(lock)


def remove_leftovers(parent: Path) -> None:
    """Remove what processes that were killed left half written in a folder; what is being written stays."""
    for path in [*parent.glob(f"{_MARK}*"), *parent.glob("*.partial")]:
        with suppress(OSError):
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            finally:
                os.close(lock)
