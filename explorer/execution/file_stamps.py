"""What tells that the files of a text or model of this machine have changed: their sizes and times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from explorer.holding import holding
from explorer.paths import expand_user

Stamp = tuple[tuple[str, int, int], ...]
_seen: ContextVar[dict[str, Stamp] | None] = ContextVar("seen", default=None)


@contextmanager
def seeing_files_once() -> Iterator[None]:
    """Have what is asked for in the block see the files of a text or model as they were when the first asked."""
    with holding(_seen, {}):
        yield


def stamp_once(name: str) -> Stamp:
    """Return the stamp of a text or model, in a block of `seeing_files_once` that of the first look."""
    seen = _seen.get()
    if seen is None:
        return stamp(name)
    if name not in seen:
        seen[name] = stamp(name)
    return seen[name]


def stamp(name: str) -> Stamp:
    """Sizes and times of the files that a text or model of this machine is made of: changed files are other work."""
    if not name:
        return ()
    path = expand_user(name.removeprefix("tokens:"))
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        return tuple((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    except (OSError, ValueError):
        return ()
