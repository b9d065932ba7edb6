"""A call into another library, which may fail in any way, a panic of Rust included -> this program's own errors."""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from explorer.errors import Cancelled, ExplorerError, ModelError, first_line

_STDERR = 2
_holding = threading.Lock()


@contextmanager
def guarded(
    what: str, remedy: str = "Check the model's tokenizer files", kind: type[ExplorerError] = ModelError
) -> Iterator[None]:
    """Turn whatever the block raises into one line of `kind`: `what` happened, the error's own words, `remedy`.

    A panic of a library in Rust counts, though it is no `Exception`. Errors of this program, `Cancelled`, Ctrl-C and
    what else ends a thread or a process pass through.

    Raises:
        ExplorerError: of `kind`.
    """
    try:
        with _without_panics():
            yield
    except (ExplorerError, Cancelled):
        raise
    except Exception as error:
        raise kind(what, _describe(error), remedy) from error
    except BaseException as error:
        if not is_panic(error):
            raise
        raise kind(what, _describe(error), remedy) from error


def is_panic(error: BaseException) -> bool:
    """Tell whether an error is a panic of a library that is written in Rust."""
    return type(error).__module__ == "pyo3_runtime"


def _describe(error: BaseException) -> str:
    """Return an error's words, and its type where that says more: a KeyError's text is a bare key."""
    line = first_line(error).rstrip(".")
    name = type(error).__name__
    return line if name in line or type(error) in (Exception, ValueError, RuntimeError, OSError) else f"{name}: {line}"


@contextmanager
def _without_panics() -> Iterator[None]:
    """Keep the report that Rust itself writes of a panic off standard error; whatever else is written there follows.

    Standard error is the whole process's: one block at a time holds it back, and others meanwhile leave it alone.
    """
    if not _holding.acquire(blocking=False):
        yield
        return
    try:
        with tempfile.TemporaryFile() as held:
            own = os.dup(_STDERR)
            panicked = False
            try:
                os.dup2(held.fileno(), _STDERR)
                yield
            except BaseException as error:
                panicked = is_panic(error)
                raise
            finally:
                os.dup2(own, _STDERR)
                os.close(own)
                held.seek(0)
                _write(held.read(), panicked)
    finally:
        _holding.release()


def _write(held: bytes, panicked: bool) -> None:
    """Write what was held back to standard error, up to the report of a panic if there was one."""
    kept = re.split(rb"\n?thread '[^\n]*panicked at", held)[0] if panicked else held
    with suppress(OSError):
        while kept:
            kept = kept[os.write(_STDERR, kept) :]
