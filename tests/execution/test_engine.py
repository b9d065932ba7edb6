"""The engine's jobs over one model: what is urgent runs inside what is long, and changes none of its numbers."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.evaluation.generation import generate
from explorer.evaluation.perplexity import score
from explorer.execution.engine import Engine
from explorer.execution.job import SAMPLE, SWEEP, Job
from explorer.execution.measuring import ask_interactions, request_interactions
from explorer.execution.view import View
from explorer.masks.mask import NONE, Mask
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import LoadedModel
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.gates import WAIT, wait
from tests.support.tiny_models import WINDOW, Tiny

MASK = Mask.parse("a1,3")


@pytest.fixture
def view(tiny: Tiny) -> View:
    return View(str(tiny.folder("llama")), "python-docs", 5 * WINDOW, WINDOW, "float32", "cpu", "none", MASK)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path, lambda owner: True)
    yield made
    made.worker.close()


class Barrier:
    """Holds the worker up before a layer of the model, once, until it is let go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, engine: Engine, view: View, layer: int) -> None:
        wait(engine.summary("ann", view))
        self.reached, self.go_on = threading.Event(), threading.Event()
        assert engine.resident.loaded is not None
        inner = engine.resident.loaded.wrappers.layers[layer].mlp.act_fn.forward

        def forward(*args: Any) -> Any:
            if not self.reached.is_set():
                self.reached.set()
                assert self.go_on.wait(WAIT)
            return inner(*args)

        monkeypatch.setattr(engine.resident.loaded.wrappers.layers[layer].mlp.act_fn, "forward", forward)


def watch(job: Job, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that will hold the states of a job at each score."""
    states: list[str] = []

    def watched(*args: Any, **options: Any) -> Any:
        states.append(job.state)
        return score(*args, **options)

    monkeypatch.setattr("explorer.execution.readouts.score", watched)
    return states


def test_a_readout_runs_inside_a_measurement(
    engine: Engine, view: View, llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = Barrier(monkeypatch, engine, view, layer=1)
    sweep = engine.redundancy("ann", view)
    assert barrier.reached.wait(WAIT)
    states = watch(sweep, monkeypatch)
    readout = engine.score("bob", view)
    assert engine.worker.ahead(readout) == 0
    barrier.go_on.set()
    found, measured = wait(readout).result, wait(sweep).result
    assert states == ["paused"]
    (expected,) = score(llama, llama_corpus, [MASK], Store(None))
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-6)
    undisturbed = measure_similarity(llama, llama_corpus, Store(None))
    np.testing.assert_array_equal(measured.norms, undisturbed.norms)
    np.testing.assert_array_equal(measured.angular["mean"], undisturbed.angular["mean"])


def test_a_readout_runs_inside_a_samples_prompt(
    engine: Engine, view: View, llama: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = Barrier(monkeypatch, engine, view, layer=0)
    sample = engine.sample("ann", "sample", view, "The quick brown fox", 12, False)
    assert barrier.reached.wait(WAIT)
    states = watch(sample, monkeypatch)
    readout = engine.score("ann", replace(view, mask=NONE))
    barrier.go_on.set()
    wait(readout)
    assert wait(sample).result.token_ids == generate(llama, MASK, "The quick brown fox", 12).token_ids
    assert states == ["paused"]


def test_a_readout_of_another_model_waits_for_the_end(
    engine: Engine, view: View, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = Barrier(monkeypatch, engine, view, layer=1)
    sweep = engine.redundancy("ann", view)
    assert barrier.reached.wait(WAIT)
    states = watch(sweep, monkeypatch)
    readout = engine.score("bob", replace(view, model=str(tiny.folder("gpt2"))))
    barrier.go_on.set()
    assert wait(sweep).state == "done"
    assert wait(readout).state == "done"
    assert states == ["done"]


def test_a_cancelled_measurement_stops_at_the_next_layer(
    engine: Engine, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    barrier = Barrier(monkeypatch, engine, view, layer=0)
    sweep = engine.redundancy("ann", view)
    assert barrier.reached.wait(WAIT)
    runs: list[int] = []
    assert engine.resident.loaded is not None
    engine.resident.loaded.wrappers.layers[1].self_attn.register_forward_pre_hook(lambda *_: runs.append(1))
    engine.worker.cancel_for("ann", sweep)
    barrier.go_on.set()
    assert wait(sweep).state == "cancelled"
    assert runs == []


def test_another_model_takes_the_place_of_the_one_before(engine: Engine, view: View, tiny: Tiny) -> None:
    wait(engine.summary("ann", view))
    first = engine.resident.loaded
    assert first is not None
    wait(engine.summary("ann", replace(view, model=str(tiny.folder("gpt2")))))
    assert first.model is None
    assert engine.resident.loaded is not first


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "./no/such/model"},
        {"model": "no-such-org/no-such-model"},
        {"device": "cuda:99"},
        {"dtype": "float7"},
        {"model": "gpt2 of the fixture", "text": "./no/such/text.txt"},
    ],
)
def test_what_cannot_be_loaded_takes_nobodys_model_away(
    engine: Engine, view: View, tiny: Tiny, changes: dict[str, str]
) -> None:
    wait(engine.summary("ann", view))
    before = engine.resident.loaded
    if "gpt2" in changes.get("model", ""):
        changes = {**changes, "model": str(tiny.folder("gpt2"))}
    assert wait(engine.summary("bob", replace(view, **changes))).state == "failed"
    assert engine.resident.loaded is before
    assert before is not None
    assert before.model is not None


def test_a_model_whose_weights_are_damaged_is_refused_and_the_next_ask_loads_again(
    engine: Engine, view: View, tiny: Tiny, tmp_path: Path
) -> None:
    found = wait(engine.score("ann", view)).result
    damaged = shutil.copytree(tiny.folder("llama"), tmp_path / "damaged", ignore=shutil.ignore_patterns("cache"))
    (damaged / "model.safetensors").write_bytes(b"x" * 100)
    job = wait(engine.summary("bob", replace(view, model=str(damaged))))
    assert job.state == "failed"
    assert len(str(job.error).splitlines()) == 1
    again = wait(engine.score("ann", replace(view, mask=NONE)))
    np.testing.assert_array_equal(again.result.nll, found.unpruned.nll)


def test_an_export_is_found_again_by_who_comes_back(engine: Engine, view: View, tmp_path: Path) -> None:
    assert engine.find_export("ann", view) is None
    out = tmp_path / "out"
    job = engine.export("ann", view, "recipe", out, False)
    after_reload = replace(view, plan=PlanSpec("magnitude"))  # which page and plan were shown does not matter
    assert engine.find_export("ann again", after_reload) is job
    assert ("ann again", "export") in job.owners
    wait(job)
    assert engine.find_export("ann again", view) is job
    assert engine.find_export("ann again", replace(view, mask=NONE)) is None
    second = engine.export("ann", view, "recipe", out, False)
    assert second is not job, "asked for again, it is written again"
    assert "not empty" in str(wait(second).error)
    assert engine.find_export("bob", view) is second


def test_work_is_told_apart_from_work_that_is_done(engine: Engine, view: View) -> None:
    asked = request_interactions(view, "layer")
    assert not engine.runs(asked, or_done=True)
    job = wait(ask_interactions(engine, "ann", view, "layer"))
    assert job.state == "done"
    assert not engine.runs(asked)
    assert engine.runs(asked, or_done=True)
    assert not engine.runs(request_interactions(view, "site"), or_done=True)


def test_long_work_has_patience_and_what_is_soon_done_has_little(engine: Engine, view: View) -> None:
    long = [engine.redundancy("ann", view), engine.plan("ann", view), ask_interactions(engine, "ann", view, "layer")]
    brief = [engine.score("ann", view), engine.sample("ann", "s", view, "x", 1, False), engine.summary("ann", view)]
    assert {job.patience for job in long} == {600.0}
    brief.append(engine.leave_one_out("ann", view, 4))  # nobody asked for them
    assert all(0 < job.patience < 60 for job in brief)


def test_the_engine_tells_how_the_worker_does(engine: Engine, view: View) -> None:
    wait(engine.summary("ann", view))
    health = engine.health()
    assert (health["ok"], health["queued"]) == (True, 0)
    assert 0 <= health["beats_ago"] < WAIT
    assert health["kept_bytes"] == 0
    wait(engine.score("ann", view))
    assert 0 < engine.health()["kept_bytes"] <= engine.resident.state_cache.budget


def test_hooks_check_before_every_layer_that_runs(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama.batch_shape, "tokens", 8 * WINDOW)
    checks: list[int] = []
    with llama.wrappers.checking(lambda: checks.append(1)):
        score(llama, llama_corpus, [Mask.parse("2")], Store(None))
    layers = 4 + 1  # none: four; without layer 2: layer 3 again
    assert len(checks) == layers + 1  # and layer 2, which is asked for and skipped
    checks.clear()
    score(llama, llama_corpus, [Mask.parse("1")], Store(None))
    assert checks == []


@pytest.mark.parametrize(
    ("plan", "priority"),
    [("block-influence", SAMPLE), ("deepest", SAMPLE), ("block-influence;iterative=yes", SWEEP), ("greedy", SWEEP)],
)
def test_a_plan_that_is_soon_made_is_made_before_samples(engine: Engine, view: View, plan: str, priority: int) -> None:
    asked = replace(view, plan=PlanSpec.parse(plan))
    engine.sample("ann", "sample/0/original", asked, "a b", 4, False)
    made = engine.plan("ann", asked)
    assert made.priority == priority
    made.cancel()
