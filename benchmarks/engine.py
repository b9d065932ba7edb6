"""The library against plain transformers, on the default model and text."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import torch
from torch.nn import functional as F

from explorer.checkpoints import DEFAULT_MODEL
from explorer.loading import LoadedModel, load, quieten_libraries
from explorer.masks import NONE, Mask
from explorer.records import Corpus, ModelSpec
from explorer.scoring import score, score_batch
from explorer.similarity import measure
from explorer.store import Store

Row = tuple[str, str, str]
CACHE = Path(os.environ.get("EXPLORER_CACHE") or "cache")


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median time of some runs; of several, after one that does not count."""
    if repeats > 1:
        work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return median(times)


@torch.inference_mode()
def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    quieten_libraries()
    loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
    corpus = loaded.tokenize("python-docs", 2048, 256)
    yield from _measure(loaded, corpus)
    yield from _score(loaded, loaded.tokenize("python-docs", 1024, 256))
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "explorer", "info"], check=True, stdout=subprocess.DEVNULL)
    yield "start to ready, command line (`info`)", f"{time.perf_counter() - start:.1f} s", "< 5 s"


def _measure(loaded: LoadedModel, corpus: Corpus) -> Iterator[Row]:
    ids = torch.from_numpy(corpus.calibration.ids)
    plain = seconds(lambda: loaded.model.base_model(ids, use_cache=False))
    whole = seconds(lambda: loaded.model(ids, use_cache=False))
    ours = seconds(lambda: measure(loaded, corpus, Store(None)))
    yield f"plain forward, {ids.numel()} tokens, without and with the head", f"{plain:.2f} s, {whole:.2f} s", ""
    yield "measure / plain forward without the head", f"{ours / plain:.2f}", "1.15"


def _score(loaded: LoadedModel, corpus: Corpus) -> Iterator[Row]:
    masks = [Mask(frozenset({site})) for site in loaded.sites]
    ids = torch.from_numpy(corpus.held_out.ids)

    def one_by_one() -> None:
        for mask in masks:
            for _ in score_batch(loaded.hooks, ids, [mask]):
                pass

    def plainly() -> None:
        with loaded.hooks.masked(NONE):
            logits = loaded.model(ids, use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())

    shared = seconds(lambda: score(loaded, corpus, masks, Store(None)), 1)
    apart, plain = seconds(one_by_one, 1), seconds(plainly) * len(masks)
    yield (
        f"{len(masks)} single-site masks, {ids.numel()} tokens, shared prefixes / the same one by one",
        f"{shared / apart:.2f}",
        "0.55",
    )
    yield (
        f"{len(masks)} single-site masks, {ids.numel()} tokens, shared prefixes / plain forwards with loss",
        f"{shared / plain:.2f}",
        "",
    )
    store = Store(None)
    score(loaded, corpus, masks, store)
    yield "stored answer, 60 masks", f"{1000 * seconds(lambda: score(loaded, corpus, masks, store)):.0f} ms", "50 ms"
