"""Two workers by Ray on this machine, each on a core: what the process that waits costs beside them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import torch

from explorer.evaluation.perplexity import score
from explorer.execution import ray_executor
from explorer.execution.executors import spreading
from explorer.masks.units import find_units
from explorer.storage.store import Store
from tests.performance.engine import Row
from tests.support.tiny_models import WINDOW, Tiny

_SECONDS, _WINDOWS = 0.5, 600


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    least, ray_executor._LEAST_SECONDS = ray_executor._LEAST_SECONDS, _SECONDS
    try:
        with tempfile.TemporaryDirectory() as made:
            yield from _run(Path(made))
    finally:
        ray_executor._LEAST_SECONDS = least
        torch.set_num_threads(threads)


def _run(folder: Path) -> Iterator[Row]:
    loaded = Tiny(folder).load("llama")
    corpus = loaded.tokenize("python-docs", _WINDOWS * WINDOW, WINDOW)
    masks = [a | b for a, b in combinations(find_units(loaded.n_layers, "site"), 2)]
    with spreading(loaded, "ray;workers=2", folder / "cache"):
        score(loaded, corpus, masks, Store(None), "calibration")  # has them load, and tells how long a slice takes
        before, slices = _count_seconds(loaded.pace._spent), loaded.executor._number
        began, own = time.perf_counter(), time.process_time()
        score(loaded, corpus, masks, Store(folder / "cache"))
        took, own = time.perf_counter() - began, time.process_time() - own
        worked, slices = _count_seconds(loaded.pace._spent) - before, loaded.executor._number - slices
    what = f"two workers by Ray, a tiny model, {slices} slices of {worked / slices:.1f} s: processor time beside theirs"
    yield what, f"{own / worked:.1%}", "5%"
    yield "the same: time in which a worker has nothing to do", f"{1 - worked / 2 / took:.1%}", ""


def _count_seconds(spent: dict) -> float:
    return sum(seconds for seconds, _ in spent.values())
