"""What zeros inside matrices take: passes, time against a plain forward, peak memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import torch

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.masks.mask import NONE
from explorer.model.loading import load, quieten_libraries
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.performance.engine import CACHE, Row, seconds

TOKENS, WINDOW = 4096, 256
GOALS = {"wanda;pattern=2:4": "2", "sparsegpt;pattern=2:4": "4", "wanda++;pattern=2:4": "60"}
_APART = """
import sys
from pathlib import Path
from explorer.checkpoints.spec import ModelSpec
from explorer.masks.mask import NONE
from explorer.model.loading import load
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
read = lambda field: int(Path("/proc/self/status").read_text().partition(field + ":")[2].split()[0]) * 1024
cache, model, spec, tokens, window = sys.argv[1:]
loaded = load(ModelSpec(model), Store(None), Path(cache))
corpus = loaded.tokenize("python-docs", int(window), int(window), calibration_tokens=int(tokens))
before = read("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
modify(loaded, corpus, NONE, [spec], Store(None))
print(read("VmHWM") - before)
"""


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    quieten_libraries()
    loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
    corpus = loaded.tokenize("python-docs", WINDOW, WINDOW, calibration_tokens=TOKENS)
    ids = torch.from_numpy(corpus.calibration.ids)
    with torch.inference_mode():
        plain = seconds(lambda: [loaded.model.base_model(row[None], use_cache=False) for row in ids], 3)
    for spec, goal in GOALS.items():
        start = time.perf_counter()
        variant = modify(loaded, corpus, NONE, [spec], Store(None))
        took = (time.perf_counter() - start) / plain
        passes = variant.deltas[0].origin.forwards
        yield f"`{spec}`, {TOKENS:,} tokens: time / a plain forward of them ({passes:.1f} passes)", f"{took:.1f}", goal
        words = [sys.executable, "-c", _APART, str(CACHE), DEFAULT_MODEL, spec, str(TOKENS), str(WINDOW)]
        grown = int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        yield f"`{spec}`: peak memory beyond the loaded model", f"{grown / 2**30:.2f} GiB", ""
