"""Real processes that are killed, share one cache or run out of disk: what is stored stays right, and is not redone."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import combinations_with_replacement, groupby, product
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from explorer.evaluation import perplexity
from explorer.masks.mask import NONE, PARTS, Mask, Site
from explorer.model.loading import LoadedModel
from explorer.storage.store import CacheError, Store
from explorer.text.windows import Windows
from tests.support.processes import child
from tests.support.tiny_models import WINDOW, Tiny, load_folder

KILLS, WAIT = 20, 300
SITES = [Site(layer, part) for layer in range(4) for part in PARTS]
MASKS = [Mask(frozenset(two)) for two in combinations_with_replacement(SITES, 2)]
STEP = 0.002  # seconds before each SQL statement; a batch of two windows takes four


@pytest.fixture
def task(tiny: Tiny, llama: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    corpus = llama.tokenize("python-docs", 24 * WINDOW, WINDOW)
    pairs = {(str(mask), digest) for mask in (NONE, *MASKS) for digest in corpus.held_out.digests}
    monkeypatch.setattr(llama.batch_shape, "tokens", 2 * WINDOW)
    expected = dict(zip(MASKS, _score(llama, corpus, MASKS, Store(None)), strict=True))
    paths = {"folder": tiny.folder("llama"), "cache": tmp_path / "cache", "log": tmp_path / "log"}
    return SimpleNamespace(**paths, corpus=corpus, pairs=pairs, expected=expected)


def _score(*args: Any, **options: Any) -> list[bytes]:
    return [s.nll.tobytes() + s.baseline.tobytes() for s in perplexity.score(*args, **options)]


def _sweep(pipe: Connection, task: Any, masks: list[Mask], step: float = 0, full: Sequence[int] = ()) -> None:
    """Score, first on full disks, then when told to go; log a batch when its nats are known and not yet stored."""
    torch.set_num_threads(1)
    loaded, store, inner = load_folder(task.folder), Store(task.cache), perplexity.score_batch
    loaded.batch_shape.tokens = 2 * WINDOW
    log = os.open(task.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def logged(wrappers: Any, ids: torch.Tensor, *rest: Any) -> Iterator[tuple[Mask, np.ndarray, dict[int, int]]]:
        digests = Windows(ids.numpy(), np.zeros(len(ids))).digests
        for found in inner(wrappers, ids, *rest):
            os.write(log, f"{os.getpid()} {found[0]} {' '.join(digests)}\n".encode())
            yield found

    def begin(done: int, total: int, what: str) -> None:
        if done == 0:
            pipe.send(total)
            pipe.recv()
            store._db.set_trace_callback(lambda _: time.sleep(step))

    for size in full:
        _refused(size, _score, loaded, task.corpus, masks, store)
    perplexity.score_batch = logged
    pipe.send(_score(loaded, task.corpus, masks, store, progress=begin))


def _refused(size: int, write: Callable, *args: Any, remedy: str = "Free some space") -> None:
    """See a write refused where no file can grow beyond a size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(CacheError, match=rf"\ACannot write the cache: .*{remedy}.*\.\Z"):
            write(*args)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _receive(pipe: Connection) -> Any:
    return pipe.recv() if pipe.poll(WAIT) else pytest.fail("no answer")


def _go(*pipes: Connection) -> list[int]:
    totals = [_receive(pipe) for pipe in pipes]
    for pipe in pipes:
        pipe.send("go")
    return totals


def _count(cache: Path) -> int:
    """Count what is stored, in a database that is whole and was never set aside."""
    assert not list(cache.glob("broken-*"))
    with closing(sqlite3.connect(cache / "scores.sqlite")) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return db.execute("SELECT count(*) FROM nll").fetchone()[0]


def test_sweep_killed_twenty_times_goes_on_where_it_stopped(task: Any) -> None:
    dice, stored, shortest = random.Random(0), [0], len(task.pairs) / 2 * 4 * STEP
    for kill in range(KILLS):
        with child(_sweep, task, MASKS, STEP) as (process, pipe):
            _go(pipe)
            time.sleep(dice.uniform(0, shortest / KILLS))
            process.kill()
            process.join()
            assert process.exitcode == -9
        stored.append(_count(shutil.copytree(task.cache, task.cache.with_name(f"copy-{kill}"))))
    assert len(set(stored)) > KILLS // 2, "most got somewhere"
    assert stored[-1] < len(task.pairs), "the sweep was over before the last kill"
    assert not any(count % 2 for count in stored), "half a batch was stored"
    with child(_sweep, task, MASKS) as (_, pipe):
        _go(pipe)
        assert _receive(pipe) == list(task.expected.values())
    assert _count(task.cache) == len(task.pairs)
    by_process = groupby(map(str.split, task.log.read_text().splitlines()), lambda line: line[0])
    attempts = [[{(mask, digest) for digest in digests} for _, mask, *digests in lines] for _, lines in by_process]
    *killed, last = attempts
    stored_once = [batch for batches in killed for batch in batches[:-1]] + last
    assert sum(map(len, stored_once)) == len(set().union(*stored_once)), "scored again though it was stored"
    assert set().union(*stored_once, *(batches[-1] for batches in killed)) == task.pairs


def test_two_processes_score_into_one_cache(task: Any, llama: LoadedModel) -> None:
    lists = MASKS[:24], MASKS[:11:-1]
    with child(_sweep, task, lists[0]) as (_, one), child(_sweep, task, lists[1]) as (_, other):
        _go(one, other)
        for pipe, masks in zip((one, other), lists, strict=True):
            assert _receive(pipe) == [task.expected[mask] for mask in masks]
    order = [line.split()[0] for line in task.log.read_text().splitlines()]
    assert len(set(order[: len(order) // 2]) & set(order[len(order) // 2 :])) == 2, "one after the other"
    assert _count(task.cache) == len(task.pairs)
    with closing(Store(task.cache)) as store:
        assert _score(llama, task.corpus, MASKS, store) == list(task.expected.values())


def _open_together(pipe: Connection, folder: Path) -> None:
    """Open new caches, each when told so; tell what went wrong."""
    for name in iter(pipe.recv, None):
        try:
            Store(folder / name).close()
        except CacheError as error:
            pipe.send(str(error))
        else:
            pipe.send("")


def test_many_processes_open_one_new_cache(tmp_path: Path) -> None:
    with ExitStack() as stack:
        pipes = [stack.enter_context(child(_open_together, tmp_path))[1] for _ in range(6)]
        for name in map(str, range(20)):
            for pipe in pipes:
                pipe.send(name)
            assert [_receive(pipe) for pipe in pipes] == [""] * len(pipes)


def _write_until_full(pipe: Connection, cache: Path) -> None:
    sys.unraisablehook = lambda problem: pipe.send(str(problem))
    store, noise = Store(cache), np.random.default_rng(0).random(100_000)
    rows = [(f"{i}", "none", 0.5) for i in range(9000)]
    store.add_nll("c", [("w", "none", 1.5)])
    store.add_arrays("key", {"a": np.arange(3)})

    def write(kind: str) -> None:
        try:
            store.add_nll("c", rows) if kind == "nll" else store.add_arrays(kind, {"a": noise})
        finally:
            assert store.nll("c", ["w", "0"], "none") == {"w": 1.5}
            assert (store.arrays("key") or {})["a"].tolist() == [0, 1, 2]
            assert [path.name for path in (cache / "arrays").iterdir()] == ["key.npz"]

    for size, kind in product((0, 50_000), ("nll", "key", "new")):
        _refused(size, write, kind)
    _refused(0, Store, cache, remedy="Name another")
    store.add_nll("c", [("later", "none", 2.5)])
    store.add_arrays("later", {"a": noise})
    pipe.send("done")


def test_full_disk_is_told_and_harms_nothing_that_was_stored(tmp_path: Path) -> None:
    with child(_write_until_full, tmp_path) as (_, pipe):
        assert _receive(pipe) == "done"
    assert _count(tmp_path) == 2
    with closing(Store(tmp_path)) as store:
        assert store.nll("c", ["w", "later"], "none") == {"w": 1.5, "later": 2.5}
        assert [len((store.arrays(key) or {})["a"]) for key in ("key", "later")] == [3, 100_000]


def test_sweep_on_a_full_disk_is_refused_and_goes_on_when_there_is_space(task: Any) -> None:
    with child(_sweep, task, MASKS, 0, (0, 200_000)) as (_, pipe):
        (left,) = _go(pipe)
        assert _receive(pipe) == list(task.expected.values())
    assert 0 < left < len(task.pairs) == _count(task.cache)
    assert 2 * len(task.log.read_text().splitlines()) == left
