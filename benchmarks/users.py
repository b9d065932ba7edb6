"""Twenty users of one server, all toggling at once: from toggle to readout."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

from benchmarks.engine import CACHE, Row
from explorer.checkpoints import DEFAULT_MODEL
from explorer.masks import Mask
from tests.browser import serve
from tests.test_many_users import USERS, count_bytes, use, walk

TOKENS = 512


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    how = {"tokens": str(TOKENS), "window": "128"}
    with tempfile.TemporaryDirectory() as cache:
        copytree(CACHE / "models", Path(cache) / "models")
        with serve(EXPLORER_CACHE=cache) as url:
            asyncio.run(use(url, DEFAULT_MODEL, [[Mask()]], how))
            before = count_bytes()
            walks = [walk(seed, n_layers=30)[:5] for seed in range(USERS)]
            took = sorted(seconds for *_, seconds in asyncio.run(use(url, DEFAULT_MODEL, walks, how)))
            grown = count_bytes() - before
    yield (
        f"{USERS} users at once, {len(took)} toggles on {TOKENS} tokens: p50, p95",
        f"{took[len(took) // 2]:.1f} s, {took[int(0.95 * len(took))]:.1f} s",
        "",
    )
    yield "the server's memory grew meanwhile", f"{grown / 2**20:.0f} MiB", ""
