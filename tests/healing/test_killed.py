"""A training that is killed at random moments, again and again, ends as one that was not."""

from __future__ import annotations

import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from explorer.healing.history import read_history
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.support.processes import child
from tests.support.tiny_models import WINDOW, Tiny, load_folder

KILLS, WAIT = 10, 60
MASK, SPEC = Mask.parse("2"), "lora;steps=120;check=4"


def _train(pipe: Connection, task: Any) -> None:
    torch.set_num_threads(1)
    loaded = load_folder(task.folder)
    loaded.batch_shape.tokens = 4 * WINDOW
    pipe.send("ready")
    modify(loaded, task.corpus, MASK, [SPEC], Store(task.cache))
    pipe.send("done")


@pytest.mark.slow
def test_what_is_killed_goes_on(tiny: Tiny, llama: LoadedModel, tmp_path: Path) -> None:
    corpus = llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=20 * WINDOW)
    task = SimpleNamespace(folder=tiny.folder("llama"), cache=tmp_path / "cache", corpus=corpus)
    draw, gone = random.Random(0), set[int]()
    for _ in range(KILLS):
        with child(_train, task) as (process, ours):
            assert ours.poll(WAIT)
            assert ours.recv() == "ready"
            before, deadline = _last(task.cache), time.monotonic() + WAIT
            while _last(task.cache) == before and process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.15))
        gone.add(_last(task.cache))
    assert len(gone) > KILLS // 2
    store, whole = Store(task.cache), Store(tmp_path / "whole")
    found, expected = (modify(llama, corpus, MASK, [SPEC], each).deltas[0] for each in (store, whole))
    assert found == expected
    curves = [
        [(record.step, record.loss, record.validation) for record in read_history(llama, WINDOW, found.origin, each)]
        for each in (store, whole)
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 120 + 30


def _last(cache: Path) -> int:
    return max((int(path.name.rpartition("-")[2]) for path in cache.glob("training/*/0/checkpoint-*")), default=0)
