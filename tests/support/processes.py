"""Processes for tests to kill, forked from a server that has imported what they need."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from tqdm import tqdm

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.export.test_export_killed",
        "tests.healing.test_killed",
        "tests.modifiers.test_killed",
        "tests.storage.test_interrupted",
        "tests.support.api_server",
        "transformers.models.llama.modeling_llama",
    ]
)
# tqdm's own lock is one for all that are forked from the server: who is killed with it in hand keeps it for ever.
tqdm.set_lock(threading.RLock())


@contextmanager
def child(target: Any, *args: Any) -> Iterator[tuple[Any, Connection]]:
    """Run a function, given a pipe first, in a process of its own, killed when the block ends; yield it and our end."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=target, args=(theirs, *args))
    process.start()
    theirs.close()
    with ours, closing(process), ExitStack() as stack:
        stack.callback(process.join)
        stack.callback(process.kill)
        yield process, ours
