"""A file that a user names -> its content: regular files only, and no more of them than is asked for.

A path may name anything: a pipe that nobody writes to, a device without end, a folder, a loop of links. None of them
is waited for, and no more is held than a file of its kind can have.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from explorer.errors import ExplorerError

#: Bytes of a plan, recipe or config at the most.
SMALL = 8 << 20

#: Bytes of a tokenizer or an index of tensors at the most.
LARGE = 64 << 20


class Unreadable(Exception):
    """A file cannot be read; the text says why, in a few words."""


def is_file(path: str | Path) -> bool:
    """Tell whether there is a regular file; a name that no file can have names none."""
    return os.path.isfile(path)


def exists(path: str | Path) -> bool:
    """Tell whether there is something; a name that no file can have names nothing."""
    return os.path.exists(path)


def is_special(path: Path) -> bool:
    """Tell whether there is something to be opened that is no regular file: a pipe, a device, a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file for reading.

    Raises:
        Unreadable: there is none, it is no regular file, or it may not be read; also what reading it in the block
            raises as OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except ValueError:
        raise Unreadable("no file has a NUL in its name") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Unreadable("it is no regular file")
    try:
        with os.fdopen(descriptor, "rb") as file:
            yield file
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None


def read_text(path: Path, most: int = SMALL) -> str:
    """Read a UTF-8 file of a bounded size. Raises Unreadable."""
    with opened(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Unreadable(f"it is larger than {most >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8: {error.reason} at byte {error.start}") from None


def read_json(path: Path, kind: type[ExplorerError], what: str, remedy: str, most: int = SMALL) -> Any:
    """Read a JSON file of a bounded size.

    Args:
        kind: the error to raise where it cannot be read, or is not JSON.
        what, remedy: what that error says beside the path and the reason.
    """
    try:
        return json.loads(read_text(path, most))
    except Unreadable as error:
        raise kind(what, f"{path} ({error})", remedy) from None
    except (ValueError, RecursionError) as error:  # also numbers of more digits than Python reads
        found = "nested too deeply" if isinstance(error, RecursionError) else str(error).partition(";")[0]
        raise kind(what, f"{path} is not JSON ({found})", remedy) from None
