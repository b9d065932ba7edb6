"""Items to decide by: apart from those judged by, their losses against slow NumPy, and searches that lower them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from explorer.benchmarks.calibration import make_calibration_items
from explorer.benchmarks.catalogue import is_item_criterion
from explorer.benchmarks.evaluate import Asking, evaluate
from explorer.benchmarks.likelihoods import find_likelihoods
from explorer.errors import TaskError
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.model.loading import LoadedModel
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.task_files import write_tasks

MASKS = [NONE, Mask.parse("1"), Mask.parse("a2,m3")]


@pytest.mark.parametrize("name", ["probe:copying", "probe:comparison", "animals"])
def test_a_loss_is_the_nats_of_the_right_choice(
    llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path, name: str
) -> None:
    criterion = name if ":" in name else f"task:{write_tasks(tmp_path)}/{name}.yaml"
    assert is_item_criterion(criterion)
    found = make_calibration_items(llama, llama_corpus, criterion, 6)
    losses = found.find_losses(llama, MASKS, Store(None))
    for row, answers in zip(losses, find_likelihoods(llama, found.items, MASKS, Store(None)), strict=True):
        for loss, item, gold in zip(row, answers, found.gold, strict=True):
            shares = np.exp([-each.nll for each in item])
            assert loss == pytest.approx(-np.log(shares[gold] / shares.sum()))


def test_they_are_none_that_is_judged_by(llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path) -> None:
    folder = write_tasks(tmp_path)
    (judged,) = evaluate(llama, llama_corpus, [], Store(None), ["animals"], Asking(folder))
    decided = make_calibration_items(llama, llama_corpus, f"task:{folder}/animals.yaml", 99)
    assert len(decided.items) == len(judged) == 6
    texts = [llama.tokenizer.decode(item[0].context) for item in decided.items]
    assert texts[0] == "Question: who of 100 met the cat\nAnswer:"
    assert not set(texts) & {each.context for each in judged.questions}
    assert decided.gold == tuple(number % 4 for number in range(100, 106))


def test_windows_stand_for_items(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    n_windows = len(llama_corpus.calibration)
    losses = make_loss_function(llama, llama_corpus, store, "probe:copying")
    items = make_calibration_items(llama, llama_corpus, "probe:copying", 8 * n_windows)
    each = items.find_losses(llama, MASKS, store).reshape(len(MASKS), n_windows, 8).mean(axis=2)
    np.testing.assert_array_equal(losses(MASKS, slice(0, n_windows)), each)
    np.testing.assert_array_equal(losses(MASKS, slice(2, 4)), each[:, 2:4])


def test_a_search_lowers_what_it_is_told(llama: LoadedModel, llama_corpus: Corpus, store: Store) -> None:
    spec = PlanSpec.parse("greedy/layer;criterion=probe:copying;confidence=1;steps=1")
    plan = make_plan(llama, llama_corpus, spec, store)
    losses = make_loss_function(llama, llama_corpus, store, "probe:copying")
    units = find_units(llama.n_layers, "layer")
    worth = losses(units, slice(None)).sum(axis=1)
    assert plan.masks[1] == units[int(worth.argmin())]


@pytest.mark.parametrize(
    ("criterion", "said"), [("written", "no choices"), ("pronouns", "no training documents"), ("nosuch", "Cannot load")]
)
def test_what_cannot_be_decided_by_is_one_line(
    llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path, criterion: str, said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        make_calibration_items(llama, llama_corpus, f"task:{write_tasks(tmp_path)}/{criterion}.yaml", 9)


def test_a_plan_is_made_anew_when_the_task_has_other_items(
    llama: LoadedModel, llama_corpus: Corpus, store: Store, tmp_path: Path
) -> None:
    task = f"task:{write_tasks(tmp_path, 80)}/animals.yaml"
    spec, heard = PlanSpec.parse(f"greedy/layer;criterion={task};confidence=1;steps=1"), list[str]()

    def ask() -> tuple[int, str]:
        heard.clear()
        plan = make_plan(llama, llama_corpus, spec, store, listener=lambda plan: heard.append(str(plan)))
        return len(heard), str(plan.masks)

    (first, masks), again = ask(), ask()
    assert first
    assert again == (0, masks)
    items = tmp_path / "animals-train.jsonl"
    items.write_text("".join(reversed(items.read_text().splitlines(keepends=True))))
    assert ask()[0]


def test_few_items_are_too_few(llama: LoadedModel, tmp_path: Path, store: Store) -> None:
    corpus = llama.tokenize("python-docs", 9 * 24, 24)
    with pytest.raises(TaskError, match="6 items for 9 windows"):
        make_loss_function(llama, corpus, store, f"task:{write_tasks(tmp_path)}/animals.yaml")


def test_without_the_harness_a_task_says_what_to_install(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("explorer.extras.is_installed", lambda module: module != "lm_eval")
    with pytest.raises(Exception, match=r"\[evaluation\]"):
        make_calibration_items(llama, llama_corpus, "task:arc_easy", 9)
    assert make_calibration_items(llama, llama_corpus, "probe:sorting", 2).items
