"""Processes that are killed while they fit and write deltas: what is there afterwards is whole."""

from __future__ import annotations

import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.support.processes import child
from tests.support.tiny_models import WINDOW, Tiny, load_folder

KILLS, WAIT = 8, 60
MASKS = [Mask.parse(text) for text in ("1", "2", "1-2", "a1", "m2", "a1,2", "3", "1,3")]
SPECS = [ModifierSpec.parse(text) for text in ("refit", "linear")]


def _fit(pipe: Connection, task: Any) -> None:
    torch.set_num_threads(1)
    loaded, store = load_folder(task.folder), Store(task.cache)
    loaded.batch_shape.tokens = 4 * WINDOW
    pipe.send("ready")
    for mask in MASKS:
        modify(loaded, task.corpus, mask, SPECS, store)
    pipe.send("done")


def test_what_is_killed_leaves_nothing_half(tiny: Tiny, llama: LoadedModel, tmp_path: Path) -> None:
    corpus = llama.tokenize("python-docs", 5 * WINDOW, WINDOW)
    task = SimpleNamespace(folder=tiny.folder("llama"), cache=tmp_path / "cache", corpus=corpus)
    expected, draw = {mask: modify(llama, corpus, mask, SPECS, Store(None)) for mask in MASKS}, random.Random(0)
    for _ in range(KILLS):
        with child(_fit, task) as (_, ours):
            assert ours.poll(WAIT)
            assert ours.recv() == "ready"
            time.sleep(draw.uniform(0, 0.5))
        store = Store(task.cache)
        assert not list((task.cache / "deltas").glob(".partial-*"))
        whole = [path.stem for path in (task.cache / "deltas").glob("*.safetensors") if "." not in path.stem]
        made = {delta for variant in expected.values() for delta in variant.deltas}
        assert {store.deltas.find(key) for key in whole} <= made
        store.close()
    store = Store(task.cache)
    assert {mask: modify(llama, corpus, mask, SPECS, store) for mask in MASKS} == expected
    store.close()
