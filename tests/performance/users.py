"""Twenty users of one server: all toggling at once, from toggle to readout; five minutes of a crowd."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from urllib.request import urlopen

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.masks.mask import Mask
from tests.performance.engine import CACHE, Row
from tests.support.browser import serve
from tests.support.crowd import stand
from tests.support.many_users import USERS, count_bytes, use, walk
from tests.support.tiny_models import Tiny

TOKENS, REST = 512, 5.0  # seconds without a toggle until memory is looked at


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    how = {"tokens": str(TOKENS), "window": "128"}
    with tempfile.TemporaryDirectory() as cache:
        copytree(CACHE / "models", Path(cache) / "models")
        with serve(EXPLORER_CACHE=cache) as url:
            asyncio.run(use(url, DEFAULT_MODEL, [[Mask()]], how))
            time.sleep(REST)
            before = count_bytes() - _count_kept(url)
            walks = [[Mask(), *walk(seed, n_layers=30)[:5]] for seed in range(USERS)]
            took = _list_toggles(url, walks, how)
            time.sleep(REST)
            kept = _count_kept(url)
            grown = count_bytes() - kept - before
            stored = _list_toggles(url, [[Mask(), *walks[0][1:] * 6]], how)
    yield (
        f"{USERS} users at once, {len(took)} toggles on {TOKENS} tokens: p50, p95",
        f"{took[len(took) // 2]:.1f} s, {took[int(0.95 * len(took))]:.1f} s",
        "p95 half of 13 s, which the code of 2026-11-28 took",
    )
    yield "a stored value, toggle to readout: p50, p95", f"{_tell_ms(stored, 0.5)}, {_tell_ms(stored, 0.95)}", "100 ms"
    yield (
        "the server's memory grew until it rests, beyond the hidden states that it keeps",
        f"{grown / 2**20:.0f} MiB, {kept / 2**20:.0f} MiB kept",
        "100 MB",
    )
    yield from _run_crowd()


def _list_toggles(url: str, walks: list[list[Mask]], how: dict[str, str]) -> list[float]:
    """Seconds from toggle to readout of users side by side, in order; each first opens the page of the whole model."""
    return sorted(seconds for *_, seconds in asyncio.run(use(url, DEFAULT_MODEL, walks, how))[len(walks) :])


def _count_kept(url: str) -> int:
    """Bytes of hidden states that the server keeps for the next variants."""
    with urlopen(f"{url}/api/health") as answer:
        return json.load(answer)["kept_bytes"]


def _tell_ms(took: list[float], share: float) -> str:
    return f"{1000 * took[int(share * len(took))]:.0f} ms"


def _run_crowd() -> Iterator[Row]:
    """Five minutes of two tiny models, cancels, lost connections: what was wrong, and what is kept."""
    with tempfile.TemporaryDirectory() as folder:
        found = stand(Tiny(Path(folder) / "models"), Path(folder) / "cache", seconds=300.0)
    done = ", ".join(f"{name} {count}" for name, count in found.outcome.done.most_common())
    yield f"five minutes of {USERS} users and two tiny models ({done}): wrong readouts", f"{len(found.wrong)}", "0"
    yield "readouts that did not come within a minute, and were asked for again", f"{found.outcome.again}", "0"
    yield "memory that the server gained meanwhile", f"{(found.after.bytes - found.before.bytes) / 2**20:.0f} MiB", ""
    yield "open descriptors before and after", f"{found.before.descriptors}, {found.after.descriptors}", "as before"
