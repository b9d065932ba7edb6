"""What the Heal page asks for: a training watched on held-out text, others let in meanwhile, gone on with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.evaluation.generation import generate
from explorer.evaluation.perplexity import score
from explorer.execution import healing
from explorer.execution.engine import Engine
from explorer.execution.healing import Healing, Watched, ask_healing, ask_pace, list_healings
from explorer.execution.job import Job
from explorer.execution.view import View
from explorer.healing.pace import Pace
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.paths import TRAINING
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from tests.support.tiny_models import WINDOW, Tiny

WAIT = 60
SPEC = ModifierSpec.parse("lora;check=10;steps=40")


@pytest.fixture
def view(tiny: Tiny) -> View:
    mask = Mask.parse("2")
    return View(
        str(tiny.folder("llama")), "python-docs", 5 * WINDOW, WINDOW, "float32", "cpu", "none", mask, modify=(SPEC,)
    )


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path, lambda owner: True)
    yield made
    made.worker.close()


def _result(job: Job) -> Any:
    """Wait for what a job gives."""
    end = time.monotonic() + WAIT
    while job.active and time.monotonic() < end:
        time.sleep(0.005)
    assert job.state == "done", job.error
    return job.result


def _until(job: Job, step: int) -> None:
    """Wait until a training has taken a step."""
    end = time.monotonic() + WAIT
    while job.active and time.monotonic() < end:
        if isinstance(job.partial, Healing) and job.partial.records and job.partial.records[-1].step >= step:
            return
        time.sleep(0.005)
    raise AssertionError(job.error or "the training does not get on")


def test_a_training_is_judged_at_its_checkpoints(llama: LoadedModel, engine: Engine, view: View) -> None:
    found: Healing = _result(ask_healing(engine, "ann", view, "healing"))
    corpus = llama.tokenize("python-docs", 5 * WINDOW, WINDOW)
    variant = modify(llama, corpus, view.mask, view.modify, Store(None))
    pruned, healed = score(llama, corpus, [view.mask, variant], Store(None))
    (judged,) = found.judged
    assert list(judged.perplexities) == [10, 20, 30, 40]
    assert judged.below is None
    assert [step for step, _ in found.losses] == list(range(1, 41))
    assert (judged.pruned, judged.unpruned) == pytest.approx((pruned.perplexity, pruned.unpruned.perplexity), rel=1e-5)
    assert found.recovery is not None
    assert found.recovery.score.perplexity == pytest.approx(healed.perplexity, rel=1e-4)
    assert found.last_checkpoint == 30


def test_another_text_judges_and_prompts_are_gone_on_from(llama: LoadedModel, engine: Engine, view: View) -> None:
    path = engine.cache / "other.txt"
    path.write_text(" ".join(str(number * number) for number in range(900)))
    watched = Watched(str(path), ("The capital of France is", "Once"), 6)
    chain = (ModifierSpec.parse("mean"), SPEC)
    found: Healing = _result(ask_healing(engine, "ann", replace(view, modify=chain), "healing", watched))
    texts = [llama.tokenize(name, 5 * WINDOW, WINDOW) for name in ("python-docs", str(path))]
    start, healed = (modify(llama, texts[0], view.mask, chain[:count], Store(None)) for count in (1, 2))
    best = found.best_checkpoint
    assert best is not None
    assert found.start == "mean"
    for judged, corpus in zip(found.judged, texts, strict=True):
        pruned, below, end = score(llama, corpus, [view.mask, start, healed], Store(None))
        lines = (judged.unpruned, judged.pruned, judged.below, judged.perplexities[best])
        expected = (pruned.unpruned.perplexity, pruned.perplexity, below.perplexity, end.perplexity)
        assert lines == pytest.approx(expected, rel=1e-4)
        assert list(judged.perplexities) == [10, 20, 30, 40]
    assert list(found.written) == [10, 20, 30, 40]
    for texts_of, variant in ((found.whole, NONE), (found.pruned, view.mask), (found.written[best], healed)):
        assert texts_of == tuple(generate(llama, variant, prompt, 6).text for prompt in watched.prompts)
    alone = _result(ask_healing(engine, "ann", replace(view, modify=chain), "healing"))  # what was made is found again
    assert [record.step for record in alone.records] == [record.step for record in found.records]
    assert list(alone.judged[0].perplexities) == [best]
    assert alone.judged[0].perplexities[best] == found.judged[0].perplexities[best]


def test_what_watches_is_not_timed(engine: Engine, view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = healing.generate

    def slow(*args: Any, **kwargs: Any) -> Any:
        time.sleep(0.5)
        return inner(*args, **kwargs)

    monkeypatch.setattr(healing, "generate", slow)
    found: Healing = _result(ask_healing(engine, "ann", view, "healing", Watched(prompts=("Once",), tokens=2)))
    steps = [record for record in found.records if record.loss is not None]
    between = {each.step: each.seconds - before.seconds for before, each in pairwise(steps)}
    assert all(between[step] < 0.5 for step in (11, 21, 31))


def test_a_readout_goes_first_and_changes_nothing(engine: Engine, view: View, tmp_path: Path) -> None:
    job = ask_healing(engine, "ann", view, "healing")
    _until(job, 2)
    other = engine.score("bob", replace(view, mask=Mask.parse("1")))
    assert _result(other)
    assert job.active
    found = _result(job)
    alone = Engine(tmp_path / "alone", lambda owner: True)
    try:
        expected = _result(ask_healing(alone, "ann", view, "healing"))
    finally:
        alone.worker.close()
    assert found.losses == expected.losses
    assert found.judged == expected.judged


def test_what_was_stopped_goes_on(engine: Engine, view: View) -> None:
    job = ask_healing(engine, "ann", view, "healing")
    _until(job, 15)
    engine.worker.cancel_for("ann", job)
    end = time.monotonic() + WAIT
    while job.active and time.monotonic() < end:
        time.sleep(0.005)
    assert job.state == "cancelled"
    assert job.partial.last_checkpoint == 10
    engine.worker.retry("ann", job)
    again = ask_healing(engine, "ann", view, "healing")
    found = _result(again)
    assert [step for step, _ in found.losses] == list(range(1, 41))
    cut = replace(view, modify=(ModifierSpec.parse(f"{SPEC};until=10"),))
    kept = _result(engine.recover("ann", cut))
    assert kept.score.perplexity != found.recovery.score.perplexity


def test_a_pace_is_of_what_trains_over_what_is_below(engine: Engine, view: View) -> None:
    stacked = replace(view, modify=(ModifierSpec("refit"), *view.modify))
    pace = _result(ask_pace(engine, "ann", stacked))
    assert min(pace.setup, pace.step, pace.checkpoint) > 0
    assert pace.parts == 1
    assert not (engine.store.folder / TRAINING).exists()
    local = replace(view, mask=Mask.parse("1,3"), modify=(ModifierSpec("distill-local"),))
    assert _result(ask_pace(engine, "ann", local)).parts == 2


def test_steps_fit_between_setup_and_checkpoints() -> None:
    assert Pace(10, 2, 1).count_steps(60) == 20
    assert Pace(10, 2, 1, parts=2).count_steps(60) == 7
    assert Pace(10, 2, 1).count_steps(15) == 0


def test_a_browser_that_comes_back_finds_what_was_asked_for_on_the_same_mask(engine: Engine, view: View) -> None:
    assert list_healings(engine, view) == []
    watched = Watched("", ("Once",), 4)
    shorter = replace(view, modify=(ModifierSpec.parse("lora;check=10;steps=20"),))
    jobs = [ask_healing(engine, "ann", view, "healing 0", watched), ask_healing(engine, "ann", shorter, "healing 1")]
    elsewhere = replace(view, modify=(), plan=PlanSpec("magnitude"))  # where nothing was chosen yet
    assert list_healings(engine, elsewhere) == [(view, watched), (shorter, Watched())]
    engine.worker.cancel_for("ann", jobs[0])
    _result(jobs[1])
    assert list_healings(engine, elsewhere) == [(shorter, Watched())], "what was stopped is not begun by looking"
    assert ask_healing(engine, "bob", shorter, "healing 0") is jobs[1]
    for other in ({"mask": NONE}, {"calibration": "c4"}, {"text": "c4"}):
        assert list_healings(engine, replace(view, **other)) == []


def test_what_failed_or_was_forgotten_is_not_begun_anew(engine: Engine, view: View, tmp_path: Path) -> None:
    broken = replace(view, model=str(tmp_path / "none"))
    job = ask_healing(engine, "ann", broken, "healing")
    while job.active:
        time.sleep(0.005)
    assert job.state == "failed"
    assert list_healings(engine, broken) == []
    job = ask_healing(engine, "ann", view, "healing")
    _result(job)
    del engine.worker._jobs[job.key]
    assert list_healings(engine, view) == []
