"""Processes for tests to kill, forked from a server that has imported what they need."""

from __future__ import annotations

import threading
from multiprocessing import get_context

from tqdm import tqdm

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "tests.export.test_export_killed",
        "tests.recovery.test_killed",
        "tests.storage.test_interrupted",
        "transformers.models.llama.modeling_llama",
    ]
)
# tqdm's own lock is one for all that are forked from the server: who is killed with it in hand keeps it for ever.
tqdm.set_lock(threading.RLock())
