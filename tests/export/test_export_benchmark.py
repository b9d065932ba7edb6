"""Exports timed beside the whole model: by transformers, and by llama.cpp, which a stand-in plays here."""

from __future__ import annotations

import importlib
import json
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from explorer.errors import ExportError
from explorer.evaluation import decode_speed
from explorer.export import Exported, export
from explorer.export.gguf import llamacpp
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from explorer.stopwatch import standing_still
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import WINDOW, Tiny, load_folder

benchmark, gguf = map(importlib.import_module, ("explorer.export.benchmark", "explorer.export.gguf"))
MASK = Mask.parse("1,m2")


@pytest.fixture(scope="module")
def timed(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A tiny Llama, exported and timed."""
    llama = tiny.load("llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_speed, "TOKENS", 2)
        patch.setattr(benchmark, "CONTEXTS", (8, 4096))
        patch.setattr(benchmark, "TOKENS", 3)
        corpus = llama.tokenize("python-docs", 2 * WINDOW, WINDOW)
        out = tmp_path_factory.mktemp("timed") / "out"
        return export(llama, MASK, out, corpus, Store(None), format="pruned-remote-code", benchmark=True)


def test_both_are_timed_at_every_size_that_there_are_positions_for(timed: Exported) -> None:
    found = timed.evidence.benchmark
    assert found is not None
    assert [(each.batch, each.context) for each in found.timings] == [(1, 8), (4, 8)]
    for rate in (rate for each in found.timings for rate in (*each.prefill, *each.decode)):
        assert 0 < rate.interval[0] <= rate.median <= rate.interval[1]
    assert f"torch {torch.__version__}" in found.machine
    card = (timed.out / "README.md").read_text()
    assert found.machine in card
    table = [line for line in card.splitlines() if line.startswith("| transformers ")]
    assert [line.split("|")[2:4] for line in table] == [[" 1 ", " 8 "], [" 4 ", " 8 "]]
    recipe = json.loads((timed.out / "recipe.json").read_text())["measured"]["benchmark"]
    assert recipe["timings"][0]["decode"][1]["median"] == found.timings[0].decode[1].median


def test_seconds_are_those_of_the_model(llama: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves on with every pass of the model: one for each text and token that it is given."""
    clock = {"now": 0.0}

    def pass_by(module: Any, args: Any, kwargs: Any) -> None:
        clock["now"] += kwargs["input_ids"].numel()

    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock["now"])
    handle = llama.model.register_forward_pre_hook(pass_by, with_kwargs=True)
    try:
        prefill, step = benchmark._time(llama.model, torch.ones((4, 8), dtype=torch.int64))
    finally:
        handle.remove()
    assert (prefill, step) == (32, 4)
    timing = benchmark._describe("x", 4, 8, [[(2.0, 0.5), (1.0, 0.25)], [(4.0, 0.5), (1.0, 0.125)]])
    assert [rate.median for rate in timing.prefill] == [(16 + 8) / 2, 32]
    assert [rate.interval for rate in timing.decode] == [(8, 8), (16, 32)]


def test_rounds_into_which_other_work_came_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    number = count()

    def run(model: Any, ids: Any) -> tuple[float, float]:
        round_ = next(number)
        if round_ % 2:
            with standing_still():
                pass
        return float(round_), 1.0

    monkeypatch.setattr(benchmark, "_time", run)
    rounds = benchmark._take_rounds([None], torch.ones((1, 1), dtype=torch.int64), lambda: None)
    assert [found[0][0] for found in rounds] == [2, 4, 6, 8, 10, 12]


_STAND_IN = """
class Llama:
    def __init__(self, path, n_ctx, n_batch, n_threads, n_threads_batch, verbose):
        assert n_threads == n_threads_batch == 1  # as torch has
        self.size = len(open(path, "rb").read())
    def n_vocab(self):
        return 7
    def reset(self):
        pass
    def eval(self, ids):
        import time
        assert all(0 <= token < 7 for token in ids)
        time.sleep(1e-8 * self.size * len(ids))
"""


@pytest.fixture
def llama_cpp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of that name, to which a larger file is slower."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "llama_cpp.py").write_text(_STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.setattr(llamacpp, "is_installed", lambda python=sys.executable: True)
    monkeypatch.setattr(gguf, "is_installed", lambda: True)


@pytest.mark.usefixtures("llama_cpp")
def test_llama_cpp_times_both_files(
    llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llamacpp, "measure_perplexity", lambda *words: None)
    monkeypatch.setattr(benchmark, "CONTEXTS", (8,))
    out = tmp_path / "out"
    made = export(llama, Mask.parse("0-2"), out, llama_corpus, Store(None), format="gguf-f16", benchmark=True)
    (timing,) = made.evidence.benchmark.timings if made.evidence.benchmark else ()
    assert (timing.runtime, timing.batch, timing.context) == ("llama.cpp", 1, 8)
    assert timing.decode[1].median > timing.decode[0].median
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("format", "found"),
    [("recipe", "recipe has no weights"), ("gguf-f16", "llama-cpp-python is not installed")],
)
def test_what_cannot_be_timed_is_refused_before_it_is_written(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    format: str, found: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(gguf, "is_installed", lambda: False)
    with pytest.raises(ExportError, match=found):
        export(llama, Mask.parse("1"), tmp_path / "out", llama_corpus, store, format=format, benchmark=True)
    assert not list(tmp_path.iterdir())


def test_a_streamed_model_is_not_timed(llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path) -> None:
    streamed = load_folder(llama.checkpoint.folder, stream=True)
    with pytest.raises(ExportError, match="A streamed model is not timed"):
        export(streamed, Mask.parse("1"), tmp_path / "out", llama_corpus, store, benchmark=True)
