"""Evaluations: answers of variants to tasks and probes, their metrics and comparisons against slow NumPy and scipy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from explorer.benchmarks.agreement import find_acceptance, find_kl, find_speed_up
from explorer.benchmarks.catalogue import ALL_PROBES, PROBES
from explorer.benchmarks.evaluate import Asking, choose, evaluate
from explorer.benchmarks.evaluation import Answers, Evaluation
from explorer.benchmarks.question import Question
from explorer.benchmarks.request import Likelihood
from explorer.errors import TaskError
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.task_files import write_tasks

MASK = Mask.parse("1,a2")


def _make(before: list[int], after: list[int], chance: float | None = 0.25) -> Evaluation:
    answers = [
        Answers(v, {"acc": tuple(map(float, right))}, tuple(right), ()) for v, right in ((NONE, before), (MASK, after))
    ]
    questions = tuple(Question("", (), 0) for _ in before)
    return Evaluation("made", chance, questions, {"acc": lambda values: float(np.mean(values))}, tuple(answers))


def test_what_is_seen_is_what_scipy_sees() -> None:
    before, after = [1] * 30 + [0] * 10, [1] * 14 + [0] * 24 + [1] * 2
    found = _make(before, after)
    test = stats.binomtest(2, 18)
    assert (test.pvalue < 0.05) == found.compare("acc", 1).seen
    assert found.compare("acc", 1).value == pytest.approx(-14 / 40)
    assert found.tell("acc", 1) == "a difference is seen with 40 items"
    assert found.flips(1) == 18 / 40
    measured = found.measure("acc", 0)
    assert (measured.value, measured.error) == (0.75, pytest.approx(np.std(before, ddof=1) / math.sqrt(40)))
    wilson = stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert measured.interval == pytest.approx((wilson.low, wilson.high))


def test_what_cannot_be_seen_is_said() -> None:
    found = _make([1] * 40 + [0] * 20, [1] * 38 + [0] * 20 + [1, 0])
    assert found.tell("acc", 1) == "no difference can be seen with 60 items"
    at_chance = _make([1] * 16 + [0] * 44, [0] * 60)
    assert at_chance.at_chance
    assert "the unpruned model is at chance" in at_chance.tell("acc", 1)
    assert not _make([1] * 16 + [0] * 44, [0] * 60, None).at_chance


def test_agreement_is_what_it_is_defined_to_be() -> None:
    draw = np.random.default_rng(0)
    nll = draw.exponential(3, (2, 5, 3))
    items = [[[Likelihood(n, 0, a) for n, a in zip(*each, strict=True)] for each in zip(*rows, strict=True)]
             for rows in ((nll[0], np.full((5, 3), 2.0)), (nll[1], draw.random((5, 3)) * 2))]  # fmt: skip
    p, q = (np.exp(-each) / np.exp(-each).sum(-1, keepdims=True) for each in nll)
    assert find_kl(*items) == pytest.approx(stats.entropy(p, q, axis=-1).mean())
    assert find_acceptance(*items) == pytest.approx(
        np.mean([[each.accepted / 2 for each in item] for item in items[1]])
    )
    assert find_kl([[Likelihood(1, 1, 1)]], [[Likelihood(1, 1, 1)]]) is None
    assert find_kl([[Likelihood(1, 1, 1)] * 2], [[Likelihood(math.inf, 0, 0)] * 2]) == math.inf
    assert find_acceptance([()], [()]) is None
    assert choose([Likelihood(2, 0, 1), Likelihood(1, 0, 1), Likelihood(1, 0, 1)]) == 1


def test_a_perfect_draft_at_no_cost_is_as_fast_as_it_is_long() -> None:
    assert find_speed_up(1.0, 0.0) == 17
    assert find_speed_up(0.0, 0.5) == 1
    a, c, g = 0.8, 0.2, np.arange(1, 17)
    assert find_speed_up(a, c) == pytest.approx(max((1 - a ** (g + 1)) / ((1 - a) * (g * c + 1))))


def test_tasks_and_probes_are_asked_together(llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path) -> None:
    store, asking = Store(None), Asking(write_tasks(tmp_path), limit=4)
    names = ["probe:copying", "animals", "pronouns", "last_words", "texts", "written"]
    found = evaluate(llama, llama_corpus, [MASK], store, names, asking)
    assert [each.task for each in found] == names
    assert all([answers.variant for answers in each.answers] == [NONE, MASK] for each in found)
    assert [len(each) for each in found] == [4] * 6
    assert [each.chance for each in found] == [0.25, 0.25, 0.25, None, None, None]
    animals = found[1]
    for answers in animals.answers:
        for question, item, right, normed in zip(
            animals.questions, answers.likelihoods, answers.values["acc"], answers.values["acc_norm"], strict=True
        ):
            nll = np.array([each.nll for each in item])
            lengths = np.array([len(choice) for choice in ("", *question.choices)][1:]) - 1  # of the space before each
            assert right == (nll.argmin() == question.gold)
            assert normed == ((nll / lengths).argmin() == question.gold)
    assert animals.questions[0].context == "Question: who of 0 met the cat\nAnswer:"
    for evaluation in found[1:4]:
        assert [
            chosen == each.gold for chosen, each in zip(evaluation.answers[1].chosen, evaluation.questions, strict=True)
        ] == list(evaluation.answers[1].values["acc"])
    words = found[3].measure("perplexity", 1)
    nll = [item[0].nll for item in found[3].answers[1].likelihoods]
    assert words.value == pytest.approx(math.exp(np.mean(nll)))
    assert words.interval is not None
    assert words.interval[0] <= words.value <= words.interval[1]
    assert found[5].answers[0].chosen == tuple(map(str, found[5].answers[0].chosen))
    with llama.wrappers.counting() as count:
        again = evaluate(llama, llama_corpus, [MASK], store, names, asking)
        assert count.evaluations == 0
    assert [each.answers for each in again] == [each.answers for each in found]


def test_all_probes_are_asked_if_nothing_is_named(llama: LoadedModel) -> None:
    corpus = llama.tokenize("python-docs", 30 * 128, 128)
    found = evaluate(llama, corpus, [], Store(None), [ALL_PROBES], Asking(limit=3))
    assert [each.task for each in found] == [f"probe:{name}" for name in PROBES]


@pytest.mark.parametrize(("name", "said"), [("probe:nonsense", "Unknown probe"), ("nonsense", "Cannot load nonsense")])
def test_what_there_is_not_is_one_line(
    llama: LoadedModel, llama_corpus: Corpus, tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(TaskError, match=said):
        evaluate(llama, llama_corpus, [], Store(None), [name], Asking(write_tasks(tmp_path)))
