"""A checkpoint larger than the memory that it is given: 6 GB under 1.5 GB."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.performance.engine import CACHE, Row
from tests.support.large_checkpoints import work_apart, write_llama

NEEDED = 14 * 10**9  # bytes of disk: the checkpoint, and the pruned one


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    what = "6 GB streamed: similarity, all single sites, pruning; peak memory beyond the libraries"
    if shutil.disk_usage(CACHE).free < NEEDED:
        yield what, "not measured: too little disk", "1.5 GB"
        return
    with tempfile.TemporaryDirectory(dir=CACHE) as made:
        folder = Path(made)
        small = write_llama(folder / "small", 2, 64, 128, torch.bfloat16)
        large = write_llama(folder / "large", 14, 4096, 11008, torch.bfloat16, vocabulary=8000)
        found = work_apart(large, small, folder / "out", True, 128, "bfloat16", torch.get_num_threads())
    yield what, f"{found['resident_bytes'] / 1e9:.2f} GB", "1.5 GB"
    read = found["bytes_read"] / found["weights"]
    yield f"the same: bytes read for all {len(found['nll'])} single sites / the weights", f"{read:.2f}", "1.1"
    yield "the same: scoring them", f"{found['seconds']:.0f} s", ""
