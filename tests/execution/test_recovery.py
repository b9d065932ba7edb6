"""Recovery as jobs: what they find, what they leave behind when stopped, and that equal work is shared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.deltas.modifier_spec import ModifierSpec, read_modifiers
from explorer.evaluation.generation import generate
from explorer.evaluation.perplexity import score
from explorer.execution.engine import Engine
from explorer.execution.recovery import Recovery
from explorer.execution.view import View
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.modifiers.modify import modify
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.gates import WAIT, Gate, wait
from tests.support.tiny_models import WINDOW, Tiny

MASK = Mask.parse("a1,3")
REFIT = (ModifierSpec.parse("refit"),)


@pytest.fixture
def view(tiny: Tiny) -> View:
    size = 5 * WINDOW
    return View(str(tiny.folder("llama")), "python-docs", size, WINDOW, "float32", "cpu", "none", MASK, modify=REFIT)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(tmp_path, lambda owner: True)
    yield made
    made.worker.close()


def load(engine: Engine, view: View) -> tuple[LoadedModel, Corpus]:
    """Return the engine's own model, whose batches decide how windows are dealt out to fits."""
    wait(engine.summary("ann", view))
    loaded = engine.resident.loaded
    assert loaded is not None
    return loaded, engine.resident.cut(loaded, view.text, view.tokens, view.window)


def test_a_recovered_score_is_the_librarys_beside_the_masks(engine: Engine, view: View) -> None:
    job = wait(engine.recover("ann", view))
    assert job.state == "done", job.error
    found: Recovery = job.result
    loaded, corpus = load(engine, view)
    variant = modify(loaded, corpus, MASK, REFIT, Store(None))
    recovered, pruned = score(loaded, corpus, [variant, MASK], Store(None))
    np.testing.assert_array_equal(found.score.nll, recovered.nll)
    np.testing.assert_array_equal(found.pruned.nll, pruned.nll)
    assert found.score.nll.sum() < found.pruned.nll.sum()
    assert found.recovered.share == pytest.approx(1 - recovered.delta_nll_per_token / pruned.delta_nll_per_token)
    assert (found.fitted_on, found.tokens) == ("python-docs", corpus.tokens)
    assert not isinstance(found.score.variant, type(variant)), "what is kept holds no tensors"


def test_a_sample_is_written_by_the_recovered_model(engine: Engine, view: View) -> None:
    loaded, corpus = load(engine, view)
    variant = modify(loaded, corpus, MASK, REFIT, Store(None))
    found = wait(engine.sample("ann", "sample", view, "The quick brown fox", 12, False)).result
    assert found.token_ids == generate(loaded, variant, "The quick brown fox", 12).token_ids


def test_steps_of_a_plan_are_recovered_and_shown_as_they_come(engine: Engine, view: View) -> None:
    plan = wait(engine.plan("ann", replace(view, plan=PlanSpec("deepest")))).result
    gate = Gate()  # the work does not begin before somebody watches it
    engine.worker.ask("bob", "gate", "gate", "gate", gate)
    assert gate.started.wait(WAIT)
    job = engine.recovered_scores("ann", view, plan)
    shown: list[set[Mask]] = []
    show = job.show

    def watched(partial: Any) -> None:
        shown.append(set(partial))
        show(partial)

    job.show = watched  # type: ignore[method-assign]
    gate.open.set()
    found = wait(job).result
    assert set(found) == {mask for mask in plan.masks if mask}
    assert len(shown) == len(found)
    step = plan.masks[1]
    assert found[step].total_nll == wait(engine.recover("ann", replace(view, mask=step))).result.score.total_nll


def test_steps_that_a_modifier_does_not_fit_are_left_out(engine: Engine, view: View) -> None:
    view = replace(view, modify=read_modifiers("replaceme"))
    plan = wait(engine.plan("ann", replace(view, plan=PlanSpec("deepest")))).result
    found = wait(engine.recovered_scores("ann", view, plan)).result
    assert set(found) == {Mask.parse("2"), Mask.parse("1-2")}, "before layer 0 there is no MLP"
    job = wait(engine.recovered_scores("ann", replace(view, modify=read_modifiers("linear;rank=x")), plan))
    assert "rank has no such value" in str(job.error)


def test_what_was_made_is_not_made_again(engine: Engine, view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    wait(engine.recover("ann", view))
    monkeypatch.setattr("explorer.modifiers.delta_maker.DeltaMaker._make", lambda *_: pytest.fail("made again"))
    assert wait(engine.sample("ann", "sample", view, "The", 2, False)).state == "done"
    other = Engine(engine.cache, lambda owner: True)
    assert wait(other.recover("bob", view)).state == "done"
    other.worker.close()


def test_what_cannot_be_made_is_one_line(engine: Engine, view: View) -> None:
    for text in ("linear;rank=x", "nonsense"):
        job = wait(engine.recover("ann", replace(view, modify=read_modifiers(text))))
        assert job.state == "failed"
        assert len(str(job.error).splitlines()) == 1


def test_calibration_of_another_text_fits_to_it(engine: Engine, view: View, tmp_path: Path) -> None:
    text = tmp_path / "other.txt"
    text.write_text(" ".join(f"{number} is a number." for number in range(4000)))
    own = wait(engine.recover("ann", view)).result
    other = wait(engine.recover("ann", replace(view, calibration=str(text), calibration_tokens=2 * WINDOW))).result
    assert (other.fitted_on, other.tokens) == (str(text), 2 * WINDOW)
    np.testing.assert_array_equal(other.pruned.nll, own.pruned.nll)
    assert other.score.total_nll != own.score.total_nll


def test_what_is_recovered_is_exported(engine: Engine, view: View, tmp_path: Path) -> None:
    recovered = wait(engine.recover("ann", view)).result.score.perplexity
    preview = wait(engine.preview("ann", view, ("transformers-zeroed",)))
    assert preview.result["transformers-zeroed"].refused == ""
    job = wait(engine.export("ann", view, "transformers-zeroed", tmp_path / "out", False))
    assert job.state == "done", job.error
    assert job.result.evidence.proof.perplexity_reloaded == pytest.approx(recovered, rel=1e-4)


def test_without_a_mask_nothing_is_made(engine: Engine, view: View) -> None:
    whole = replace(view, mask=NONE)
    assert engine.sample("ann", "a", whole, "x", 1, False) is engine.sample("bob", "b", whole.pruned, "x", 1, False)


def test_a_calibration_text_that_is_not_there_takes_nobodys_model_away(engine: Engine, view: View, tiny: Tiny) -> None:
    wait(engine.summary("ann", view))
    before = engine.resident.loaded
    asked = replace(view, model=str(tiny.folder("gpt2")), calibration="./no/such/text.txt")
    assert wait(engine.summary("bob", asked)).state == "failed"
    assert engine.resident.loaded is before
