"""Ctrl-C, SIGTERM and SIGHUP: whatever runs ends where it can clean up, with one line that says what is kept.

Imports nothing that takes time: it is in place before torch is imported, which takes seconds.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3.0  # seconds that cleaning up may take before the next signal ends the process at once
_AGAIN = 0.02  # seconds after which an interrupt that was swallowed is raised again

#: What the last signal was, and when it came.
_received: list[tuple[int, float]] = []


def received() -> int | None:
    """The signal that ends this process, or None."""
    return _received[0][0] if _received else None


def status() -> int:
    """The exit status after a signal, as a shell has it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (received() or signal.SIGINT)


def leave_at_once() -> None:
    """From now on a signal ends the process at once: there is nothing yet to be cleaned up, or kept."""
    stderr = os.dup(2) if sys.stderr is not None else None

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        _leave(number, stderr)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup` goes on without its terminal
            signal.signal(number, leave)


def _leave(number: int, stderr: int | None) -> NoReturn:
    if stderr is not None:
        with suppress(OSError):
            os.write(stderr, b"interrupted before any work\n")
    os._exit(128 + number)


def _imports_torch() -> bool:
    """Tell whether torch is being imported: an exception in the midst of that may end the process with an abort."""
    return getattr(getattr(sys.modules.get("torch"), "__spec__", None), "_initializing", False)


@contextmanager
def raised() -> Iterator[None]:
    """Within the block the first signal is a KeyboardInterrupt, even where a library swallows it once.

    Later ones are not heard while what runs cleans up, and end the process at once if that takes long.
    """
    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
    hook = sys.unraisablehook
    _received.clear()

    def interrupt(number: int, frame: FrameType | None) -> None:
        if _imports_torch():
            _leave(number, 2)
        if not _received:
            _received.append((number, time.monotonic()))
            raise KeyboardInterrupt
        if time.monotonic() - _received[0][1] > _PATIENCE:
            os._exit(status())

    def again(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    def unraisable(problem: Any) -> None:
        if isinstance(problem.exc_value, KeyboardInterrupt):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        else:
            hook(problem)

    try:
        for number in _SIGNALS:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, interrupt)
        signal.signal(signal.SIGALRM, again)
        sys.unraisablehook = unraisable
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def end(code: int) -> NoReturn:
    """End the process with what is to be done at its end, but without waiting for threads that still download."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
