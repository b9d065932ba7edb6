"""Python's search for cycles of garbage, put off while a program starts and left out as it ends.

Importing torch and transformers makes a million objects that all stay, and sets off thousands of searches that find
nothing: a fifth of the time of `info`; the last one, as the process ends, is another fifth.
"""

from __future__ import annotations

import atexit
import gc
import threading


def put_off_collecting(seconds: float = 10.0) -> None:
    """Search for no cycles for a while, nor at the end; what nothing refers to any more is freed at once as ever."""
    gc.disable()
    atexit.register(gc.freeze)
    begin = threading.Timer(seconds, gc.enable)
    begin.daemon = True
    begin.start()
