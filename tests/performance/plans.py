"""Pairs, searches and curves against plain transformers, a full forward for every mask."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from itertools import combinations
from statistics import mean

import torch

from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.evaluation.perplexity import score
from explorer.masks.mask import Mask
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.interactions import interact
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.plans.search import Search
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.performance.engine import CACHE, Row, score_plainly, seconds

STEPS = 10


@torch.inference_mode()
def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    quieten_libraries()
    loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
    yield from _interactions(loaded, loaded.tokenize("python-docs", 1024, 128))
    corpus = loaded.tokenize("python-docs", 2048, 128)
    yield from _greedy(loaded, corpus)
    yield from _curve(loaded, corpus)


def _time_plainly(loaded: LoadedModel, ids: torch.Tensor, masks: list[Mask]) -> float:
    """Mean seconds of a full forward with its loss."""
    return mean(seconds(lambda mask=mask: score_plainly(loaded, ids, mask), 1) for mask in masks)


def _interactions(loaded: LoadedModel, corpus: Corpus) -> Iterator[Row]:
    units, ids = find_units(loaded.n_layers, "layer"), torch.from_numpy(corpus.calibration.ids)
    pairs = [Mask(a.sites | b.sites) for a, b in combinations(units, 2)]
    sample = random.Random(0).sample(pairs, 16)
    plain = [_time_plainly(loaded, ids, sample)]
    start = time.perf_counter()
    interact(units, make_loss_function(loaded, corpus, Store(None)), len(corpus.calibration), corpus.window - 1)
    ours = time.perf_counter() - start
    plain.append(_time_plainly(loaded, ids, sample))
    yield f"all {len(pairs)} layer pairs, 1024 tokens / full forwards", f"{ours / mean(plain) / len(pairs):.2f}", "0.6"


def _greedy(loaded: LoadedModel, corpus: Corpus) -> Iterator[Row]:
    units, ids = find_units(loaded.n_layers, "site"), torch.from_numpy(corpus.calibration.ids)
    sample, found, took = random.Random(1).sample(units, 8), {}, {}
    plain = [_time_plainly(loaded, ids, sample)]
    for confidence in (0.95, 1.0):
        losses = make_loss_function(loaded, corpus, Store(None))
        start = time.perf_counter()
        found[confidence] = Search(
            units, losses, len(corpus.calibration), STEPS, confidence, together=loaded.batch_shape.rows(corpus.window)
        ).greedy()
        took[confidence] = time.perf_counter() - start
        plain.append(_time_plainly(loaded, ids, [Mask(found[confidence].masks[5].sites | u.sites) for u in sample]))
    candidates = sum(len(units) - step for step in range(STEPS))
    whole = mean(plain) * candidates
    same = "the same order" if found[0.95].masks == found[1.0].masks else "another order"
    yield (
        f"greedy to {STEPS} of 60 sites, {candidates} candidates: full forwards / raced",
        f"{whole / took[0.95]:.1f}, {same} as exact",
        "5, the same order",
    )
    yield "the same with races off: full forwards / exact", f"{whole / took[1.0]:.2f}", "1.8"


def _curve(loaded: LoadedModel, corpus: Corpus) -> Iterator[Row]:
    """A curve of 60 steps in a random order, the hardest to share."""
    ids = torch.from_numpy(corpus.held_out.ids)
    sites, masks = random.Random(2).sample(loaded.sites, 60), []
    for count in range(1, 61):
        masks.append(Mask(frozenset(sites[:count])))
    plain = [seconds(lambda: score_plainly(loaded, ids, Mask()), 3)]
    pruned = _time_plainly(loaded, ids, masks[::6])
    store = Store(None)
    ours = seconds(lambda: score(loaded, corpus, masks, store), 1)
    plain.append(seconds(lambda: score_plainly(loaded, ids, Mask()), 3))
    yield (
        "held-out curve of 60 steps / 60 full forwards, of the whole model and of the pruned ones",
        f"{ours / mean(plain) / 60:.2f}, {ours / pruned / 60:.2f}",
        "0.6",
    )
