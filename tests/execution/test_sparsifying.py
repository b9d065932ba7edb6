"""What the Sparsity page asks for: errors block by block, the model so far, a matrix; a stop loses nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.evaluation.perplexity import score
from explorer.execution.engine import Engine
from explorer.execution.job import Job
from explorer.execution.sparsifying import Pruning, SoFar, ask_picture, ask_pruning, ask_scores, ask_so_far
from explorer.execution.view import View
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.support.tiny_models import WINDOW, Tiny

WAIT = 60
SPEC = ModifierSpec.parse("wanda++;pattern=2:4")


@pytest.fixture
def view(tiny: Tiny) -> View:
    named = str(tiny.folder("llama")), "python-docs", 5 * WINDOW, WINDOW, "float32", "cpu", "none", NONE
    return View(*named, modify=(SPEC,), calibration_tokens=60 * WINDOW)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path, lambda owner: True)
    yield made
    made.worker.close()


def _wait(job: Job, layers: int = 99) -> None:
    """Wait until a job has ended, or so many layers are pruned."""
    end = time.monotonic() + WAIT
    while job.active and time.monotonic() < end:
        if isinstance(job.partial, Pruning) and len(job.partial.errors) >= layers:
            return
        time.sleep(0.005)


def _result(job: Job) -> Any:
    _wait(job)
    assert job.state == "done", job.error
    return job.result


def test_the_model_so_far_is_scored_meanwhile_and_a_stop_loses_nothing(
    llama: LoadedModel, engine: Engine, view: View
) -> None:
    job = ask_pruning(engine, "ann", view)
    _wait(job, 1)
    so_far: SoFar = _result(ask_so_far(engine, "ann", view, 1))
    assert job.active
    engine.worker.cancel_for("ann", job)
    _wait(job)
    assert job.state == "cancelled"
    assert _result(ask_picture(engine, "ann", view, 0, "mlp.up_proj")).sparsity == "2:4"
    engine.worker.retry("ann", job)
    found: Pruning = _result(ask_pruning(engine, "ann", view))
    assert [each.layer for each in found.errors] == [0, 1, 2, 3]
    corpus = llama.tokenize("python-docs", 5 * WINDOW, WINDOW, calibration_tokens=60 * WINDOW)
    layers = "+".join(map(str, range(so_far.layers)))
    specs = [[f"wanda++;layers={layers};pattern=2:4"], [str(SPEC)]]
    some, whole = score(llama, corpus, [modify(llama, corpus, NONE, each, Store(None)) for each in specs], Store(None))
    assert so_far.score.perplexity == pytest.approx(some.perplexity, rel=1e-5)
    assert found.score is not None
    assert found.score.perplexity == pytest.approx(whole.perplexity, rel=1e-5)
    assert str(found.counts).endswith("2:4 holds in 28 of them")


def test_of_what_was_made_before_the_same_is_shown(engine: Engine, view: View, tmp_path: Path) -> None:
    first: Pruning = _result(ask_pruning(engine, "ann", view))
    counts = _result(ask_scores(engine, "ann", view, 2, "mlp.up_proj"))
    other = Engine(tmp_path, lambda owner: True)
    try:
        assert _result(ask_pruning(other, "bob", view)).errors == first.errors
        assert _result(ask_scores(other, "bob", view, 2, "mlp.up_proj")).cut == counts.cut
    finally:
        other.worker.close()


def test_nothing_is_looked_at_before_it_is_made(engine: Engine, view: View) -> None:
    job = ask_picture(engine, "ann", view, 0, "mlp.up_proj")
    _wait(job)
    assert "No block is pruned yet" in str(job.error)


def test_zeros_are_kept_where_nothing_is_off(view: View) -> None:
    assert view.recovers
    assert replace(view, mask=Mask.parse("1")).recovers
    refit = replace(view, modify=(ModifierSpec("refit"), SPEC))
    assert not refit.recovers
    assert not replace(view, modify=()).recovers
