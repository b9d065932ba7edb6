"""The library against plain transformers, on the default model and text."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from torch.nn import functional as F

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.perplexity import LiveScoring, score
from explorer.masks.mask import NONE, Mask
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.numerics.racing import race
from explorer.storage.store import Store
from explorer.text.windows import Corpus

Row = tuple[str, str, str]
TOKENS = 2048
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
    corpus = loaded.tokenize("python-docs", TOKENS, 256)
    yield from _measure(loaded, corpus)
    yield from _toggle(loaded, corpus)
    yield from _leave_one_out(loaded)
    yield from _one_shape(loaded, corpus)
    scoring = "score(loaded, corpus, [Mask(frozenset({site})) for site in loaded.sites[::6]], Store(None))"
    yield "peak memory beyond the weights, libraries included", peak_beyond_weights(scoring), "1.5 GiB"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "explorer", "info"], check=True, stdout=subprocess.DEVNULL)
    yield "start to ready, command line (`info`)", f"{time.perf_counter() - start:.1f} s", "< 5 s"


def _measure(loaded: LoadedModel, corpus: Corpus) -> Iterator[Row]:
    ids = torch.from_numpy(corpus.calibration.ids)
    works = (
        lambda: loaded.model.base_model(ids, use_cache=False),
        lambda: loaded.model(ids, use_cache=False),
        lambda: measure_similarity(loaded, corpus, Store(None)),
    )
    turns = [[seconds(work, 1) for work in works] for _ in range(11)][1:]  # the machine drifts
    plain, whole, ours = (median(times) for times in zip(*turns, strict=True))
    yield f"plain forward, {ids.numel()} tokens, without and with the head", f"{plain:.2f} s, {whole:.2f} s", ""
    yield "measure / plain forward without the head", f"{ours / plain:.2f}", "1.10"


def score_plainly(loaded: LoadedModel, ids: torch.Tensor, mask: Mask) -> None:
    """A full forward with its loss, as the papers' scripts do it."""
    with loaded.wrappers.as_variant(mask):
        logits = loaded.model(ids, use_cache=False).logits
    F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def _toggle(loaded: LoadedModel, corpus: Corpus) -> Iterator[Row]:
    """Toggle one site at random beside others that are off at random, as the dashboard scores it."""
    draw = random.Random(0)
    ratios = [_time_toggle(loaded, corpus, draw) for _ in range(12)]
    yield "random toggle of a random mask / full forward", f"{mean(ratios):.2f}", "0.45"


def _time_toggle(loaded: LoadedModel, corpus: Corpus, draw: random.Random) -> float:
    mask = Mask(frozenset(draw.sample(loaded.sites, draw.randrange(1, 20))))
    toggled = Mask(mask.sites ^ {draw.choice(loaded.sites)})
    store, live = Store(None), LiveScoring(HiddenStateCache(2**30), lambda estimates: None)
    score(loaded, corpus, [mask], store, live=live)
    ours = seconds(lambda: score(loaded, corpus, [toggled], store, live=live), 1)
    return ours / seconds(lambda: score_plainly(loaded, torch.from_numpy(corpus.held_out.ids), toggled), 1)


def _leave_one_out(loaded: LoadedModel) -> Iterator[Row]:
    """All single sites, in windows of 128; the full forwards are timed before and after, for the machine drifts."""
    corpus = loaded.tokenize("python-docs", TOKENS, 128)
    masks = [Mask(frozenset({site})) for site in loaded.sites]
    ids = torch.from_numpy(corpus.calibration.ids)
    stores = Store(None), Store(None)

    def losses(asked: Sequence[Mask], rows: slice) -> np.ndarray:
        return np.stack([s.nll for s in score(loaded, corpus, asked, stores[1], "calibration", rows=rows)])

    def full_forwards() -> list[float]:
        return [seconds(lambda mask=mask: score_plainly(loaded, ids, mask), 1) for mask in masks[::7]]

    plain = full_forwards()
    exact = seconds(lambda: score(loaded, corpus, masks, stores[0], "calibration"), 1)
    plain += full_forwards()
    start = time.perf_counter()
    found = race(masks, losses, len(corpus.calibration), together=loaded.batch_shape.rows(corpus.window))
    raced = time.perf_counter() - start
    plain += full_forwards()
    best = min(score(loaded, corpus, masks, stores[0], "calibration"), key=lambda s: s.total_nll)
    whole = mean(plain) * len(masks)
    yield "60 leave-one-out sites, exact / full forwards", f"{exact / whole:.2f}", "0.52"
    yield (
        "60 leave-one-out sites, raced to the best / full forwards",
        f"{raced / whole:.2f}, {'the same' if best.mask == found.winner else 'another'} winner, "
        f"{found.saved} of {found.saved + found.evaluations} window-evaluations saved",
        "0.2, the same winner",
    )
    stored = seconds(lambda: score(loaded, corpus, masks, stores[0], "calibration"))
    yield "stored answer, 60 masks", f"{1000 * stored:.0f} ms", "50 ms"


def _one_shape(loaded: LoadedModel, corpus: Corpus) -> Iterator[Row]:
    """What it costs that all batches have the shape of the quickest answer, and by how much shapes differ."""

    def run(tokens: int) -> np.ndarray:
        loaded.batch_shape.tokens = tokens
        return score(loaded, corpus, [NONE], Store(None))[0].nll

    usual = loaded.batch_shape.tokens
    times = [(seconds(lambda: run(usual), 1), seconds(lambda: run(2 * usual), 1)) for _ in range(6)][1:]
    ratio = median(ours for ours, _ in times) / median(larger for _, larger in times)
    nll = np.stack([run(count) for count in (256, 512, 1024, 2048)])
    loaded.batch_shape.tokens = usual
    yield f"batches of {usual:,} tokens / of {2 * usual:,}, both full", f"{ratio:.2f}", "1.05"
    apart = float((np.ptp(nll, axis=0) / nll.mean(axis=0)).max())
    yield f"the same window in batches of 256 to 2,048 tokens, {loaded.dtype}", f"nats {apart:.1e} apart", ""


_PEAK = """
import re
from tests.performance.engine import *
loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
corpus = loaded.tokenize("python-docs", TOKENS, 256)
weights = sum(parameter.nbytes for parameter in loaded.model.parameters())
{work}
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())  # getrusage has the parent's, too
print(int(peak[1]) * 1024 - weights)
"""


def peak_beyond_weights(work: str) -> str:
    """Peak resident memory of a process of its own that does work with `loaded` and `corpus`, less the weights."""
    script = _PEAK.format(work=work)
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return f"{int(found.stdout.split()[-1]) / 2**30:.2f} GiB"
