"""The cache: what it holds, what goes by age and by size, and what killed processes left."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from explorer.cli import main
from explorer.deltas.delta import Delta, Origin
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.stand_in import StandIn
from explorer.masks.mask import Mask
from explorer.storage.eviction import EvictionError, Holding, choose_evicted, evict, read_age, read_size, take_stock
from explorer.storage.partial_files import make_partial
from explorer.storage.store import Store
from tests.support.tiny_models import WINDOW, Tiny

DAY = 86400


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with a model, arrays of two ages, scores, and a database that was set aside."""
    store = Store(tmp_path)
    store.add_nll("c", [("w", "none", 1.5), ("v", "none", 2.5)])
    store.add_arrays("new", {"a": np.random.default_rng(0).random(1000)})
    store.add_arrays("old", {"a": np.random.default_rng(1).random(1000)})
    origin = Origin(ModifierSpec("mean"), Mask.parse("1"), "base", "text", 8, "corpus")
    store.deltas.keep("delta", Delta(origin, {}, {Mask.parse("1"): StandIn(bias=torch.ones(100))}))
    store.close()
    (tmp_path / "models" / "some-model").mkdir(parents=True)
    (tmp_path / "models" / "some-model" / "model.safetensors").write_bytes(bytes(5000))
    (tmp_path / "training" / "run" / "0" / "checkpoint-5").mkdir(parents=True)
    (tmp_path / "training" / "run" / "0" / "checkpoint-5" / "model.safetensors").write_bytes(bytes(7))
    (tmp_path / "broken-1").mkdir()
    (tmp_path / "broken-1" / "scores.sqlite").write_bytes(bytes(300))
    _age(tmp_path / "models" / "some-model" / "model.safetensors", 40)
    _age(tmp_path / "arrays" / "old.npz", 20)
    _age(tmp_path / "broken-1" / "scores.sqlite", 90)
    return tmp_path


def _age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def _run(cache: Path, *words: str) -> Any:
    sys.argv = ["explorer", "cache", "--cache", str(cache), "--json", *words]
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


@pytest.fixture
def run(cache: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", [])

    def command(*words: str, code: int = 0) -> Any:
        assert _run(cache, *words) == code
        found = capfd.readouterr()
        return json.loads(found.out) if code == 0 else found.err

    return command


def test_what_it_holds(cache: Path, run: Any) -> None:
    answer = run()
    assert {entry["kind"]: entry["count"] for entry in answer["holds"]} == {
        "model": 1, "arrays": 2, "delta": 1, "training": 1, "scores": 1, "set aside": 1,
    }  # fmt: skip
    assert answer["rows"] == {"nll": 2, "divergences": 0, "stars": 0}
    assert [(model["name"], model["bytes"]) for model in answer["models"]] == [("some-model", 5000)]
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert answer["bytes"] == sum(path.stat().st_size for path in files)
    assert answer["evicted"] == []


def test_nothing_is_made_where_there_is_no_cache(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _run(tmp_path / "none") == 0
    assert json.loads(capfd.readouterr().out)["bytes"] == 0
    assert not (tmp_path / "none").exists()


def test_what_is_old_goes(cache: Path, run: Any) -> None:
    assert [gone["name"] for gone in run("--older-than", "30d", "--dry-run")["evicted"]] == ["broken-1", "some-model"]
    assert (cache / "models" / "some-model").exists()
    assert [gone["name"] for gone in run("--older-than", "30d")["evicted"]] == ["broken-1", "some-model"]
    assert not (cache / "broken-1").exists()
    assert list((cache / "models").iterdir()) == []
    assert [gone["name"] for gone in run("--older-than", "2w")["evicted"]] == ["old.npz"]
    store = Store(cache)
    assert store.nll("c", ["w", "v"], "none") == {"w": 1.5, "v": 2.5}
    assert store.arrays("old") is None
    assert len((store.arrays("new") or {})["a"]) == 1000
    store.close()


def test_the_longest_unused_goes_until_the_rest_fits(cache: Path, run: Any) -> None:
    sizes = {each.path.name: each.bytes for each in take_stock(cache)}
    rest = sizes["scores.sqlite"] + sizes["new.npz"] + sizes["delta.safetensors"]
    answer = run("--larger-than", f"{rest / 1000 + 0.1:.3f}kB")
    assert [gone["name"] for gone in answer["evicted"]] == ["broken-1", "some-model", "old.npz"]
    assert answer["bytes"] <= rest + 100


def test_scores_go_last_and_leave_a_database_that_others_have_open(cache: Path, run: Any) -> None:
    other = Store(cache)
    assert other.nll("c", ["w"], "none") == {"w": 1.5}
    assert [gone["kind"] for gone in run("--larger-than", "0MB")["evicted"]][-1] == "scores"
    assert other.nll("c", ["w"], "none") == {}
    other.add_nll("c", [("w", "none", 3.5)])
    other.close()
    again = Store(cache)
    assert again.nll("c", ["w"], "none") == {"w": 3.5}
    again.close()


def test_choices() -> None:
    held = [Holding("arrays", Path(str(age)), 10, 100.0 - age) for age in (1, 3, 2)]
    assert [each.path.name for each in choose_evicted(held, None, None, 100)] == []
    assert [each.path.name for each in choose_evicted(held, 1.5, None, 100)] == ["3", "2"]
    assert [each.path.name for each in choose_evicted(held, None, 20, 100)] == ["3"]
    assert [each.path.name for each in choose_evicted(held, 2.5, 15, 100)] == ["3", "2"]
    evict([Holding("arrays", Path("/nonexistent/x.npz"), 1, 0)])


@pytest.mark.parametrize(
    ("text", "seconds"), [("30d", 30 * DAY), ("12h", 12 * 3600), ("1.5w", 10.5 * DAY), ("90m", 5400)]
)
def test_ages(text: str, seconds: float) -> None:
    assert read_age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "9" * 5000 + "d", "1e400d", "nan"])
def test_bad_ages_and_sizes_are_one_line(run: Any, text: str) -> None:
    with pytest.raises(EvictionError):
        read_age(text)
    with pytest.raises(EvictionError):
        read_size(text)
    if text:
        assert len(run("--older-than", text, code=2).splitlines()) == 1
        assert len(run("--larger-than", text, code=2).splitlines()) == 1


def test_sizes() -> None:
    assert [read_size(text) for text in ("5GB", "1.5GiB", "0kB")] == [5e9, 1.5 * 2**30, 0]


def test_what_killed_processes_left_goes_at_the_next_start(
    tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    held: list[int] = []
    for name in ("models", "arrays", "offload"):
        (cache / name).mkdir(parents=True)
        path, lock = make_partial(cache / name, folder=name != "arrays")
        held.append(lock)
        if path.is_dir():
            (path / "model.safetensors").write_bytes(bytes(10))
        dead = cache / name / ".partial-dead"
        dead.mkdir()
        (dead / "model.safetensors").write_bytes(bytes(10))
    (cache / "mine.partial").write_text("not of this program")
    size = ["--window", str(WINDOW), "--tokens", str(4 * WINDOW), "--cache", str(cache)]
    monkeypatch.setattr(sys, "argv", ["explorer", "info", "--model", str(tiny.folder("llama")), *size])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0
    assert not list(cache.glob("*/.partial-dead"))
    assert len(list(cache.glob("*/.partial-*"))) == 3, "what is being written stays"
    assert (cache / "mine.partial").exists()
    for lock in held:
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)
