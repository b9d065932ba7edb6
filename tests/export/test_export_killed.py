"""Exports that are killed: no target or a whole one, and the next export removes what was left, and nothing else."""

from __future__ import annotations

import os
import random
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch

from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import export, staging
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.processes import child
from tests.support.tiny_models import WINDOW, Tiny, load_folder

KILLS, WAIT = 20, 120
OLD, NEW = Mask.parse("2"), Mask.parse("1,a0")


def _export(pipe: Connection, source: Path, out: Path) -> None:
    """Load, wait to be told, export."""
    torch.set_num_threads(1)
    decode_speed.TOKENS = 2
    loaded = load_folder(source)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    pipe.send("ready")
    pipe.recv()
    export(loaded, NEW, out, corpus, Store(None), overwrite=True)
    pipe.send("done")


def _run(source: Path, out: Path, seconds: float | None) -> float:
    """Export in a process of its own, killed after some seconds; return how long it ran."""
    with child(_export, source, out) as (process, ours):
        assert ours.poll(WAIT)
        ours.recv()
        start = time.monotonic()
        ours.send("go")
        if seconds is None:
            assert ours.poll(WAIT)
            assert ours.recv() == "done"
        else:
            time.sleep(seconds)
            process.kill()
        process.join()
        return time.monotonic() - start


def _layers(out: Path) -> int:
    """Number of layers of a checkpoint that plain transformers loads whole."""
    model = brute_force.plain(out)
    assert len(model.model.layers) == model.config.num_hidden_layers
    assert torch.isfinite(brute_force.logits(model, torch.zeros(1, 4, dtype=torch.long).numpy())).all()
    assert (out / "README.md").is_file()
    return model.config.num_hidden_layers


def test_killed_at_twenty_moments(tiny: Tiny, llama: LoadedModel, store: Store, tmp_path: Path) -> None:
    source, place = tiny.folder("llama"), tmp_path / "exports"
    out = place / "out"
    foreign = [place / ".out.partial-mine" / "notes.txt", place / ".other.partial-x", place / "out.partial-y"]
    foreign[0].parent.mkdir(parents=True)
    for path in foreign:
        path.write_text("mine")
    _run(source, out, None)
    longest = _run(source, out, None)
    corpus = llama.tokenize("python-docs", 2 * WINDOW, WINDOW)
    dice, outcomes = random.Random(0), []
    for kill in range(KILLS):
        if kill % 2:  # half of them replace an export, half of them have nothing to replace
            export(llama, OLD, out, corpus, store, overwrite=out.exists())
            assert _layers(out) == 3
        elif out.exists():
            out.rename(tmp_path / f"before-{kill}")
        _run(source, out, dice.uniform(0, 1.2 * longest))
        outcomes.append(sum(1 for _ in place.glob(".out.partial-*")) > 1)
        if out.exists():
            assert _layers(out) == 3
        else:
            assert not kill % 2 or outcomes[-1], "what was replaced is gone"
    assert any(outcomes), "no kill left anything behind"
    assert not all(outcomes), "every kill came while it wrote"
    _run(source, out, None)
    assert _layers(out) == 3
    assert {path.name for path in place.iterdir()} == {"out", ".out.partial-mine", ".other.partial-x", "out.partial-y"}
    assert all(path.read_text() == "mine" for path in foreign)


def test_what_was_about_to_be_replaced_is_put_back(
    llama: LoadedModel, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = llama.tokenize("python-docs", 2 * WINDOW, WINDOW)
    out = tmp_path / "out"
    export(llama, OLD, out, corpus, store)
    replace, renamed = os.replace, []

    class Killed(BaseException):
        """Stands for the end of the process: nothing after it runs."""

    def killed(source: Path, destination: Path) -> None:
        if renamed:
            raise Killed
        renamed.append(source)
        replace(source, destination)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(staging, "_clear", lambda stage: None)
    with pytest.raises(Killed):
        export(llama, NEW, out, corpus, store, overwrite=True)
    monkeypatch.undo()
    assert not out.exists()
    with pytest.raises(ExportError, match="not empty"):
        export(llama, NEW, out, corpus, store)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "README.md").read_text().count("`2`")
    assert _layers(out) == 3


def test_an_export_that_still_runs_is_no_leftover(tmp_path: Path) -> None:
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        with staging.staged(tmp_path / "one") as folder:
            (folder / "config.json").write_text("{}")
            inside.set()
            go.wait(WAIT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert inside.wait(WAIT)
    staging.remove_leftovers(tmp_path)
    with staging.staged(tmp_path / "other") as folder:
        (folder / "config.json").write_text("{}")
    assert len(list(tmp_path.glob(".one.partial-*"))) == 1
    go.set()
    thread.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]
