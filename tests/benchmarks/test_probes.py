"""Probes: a rule solves every question, a uniform model is at chance, questions are always the same."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from explorer.benchmarks.catalogue import PROBES
from explorer.benchmarks.evaluate import ask_probe, make_items, make_questions
from explorer.benchmarks.question import Question
from explorer.errors import TaskError
from explorer.masks.mask import NONE
from explorer.model.loading import LoadedModel
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tables import table

_SUBJECTS = ("cat", "farmer", "child", "teacher", "sailor", "queen", "painter", "miller")
_NOUNS = ("forest", "market", "castle", "bridge", "valley", "harbour", "meadow", "tower", "cellar", "kitchen")
TEXT = "".join(f"The {one} number {i} went to the {other}. " for i, one in enumerate(_SUBJECTS) for other in _NOUNS)
N = 48


def _solve_copying(context: str) -> str:
    row, again = context.split("\n")
    return row.split()[len(again.split())]


def _solve_induction(context: str) -> str:
    *before, last = context.split()
    return before[before.index(last) + 1]


def _solve_recall(context: str) -> str:
    *lines, asked = context.split("\n")
    return dict(line.split(": ") for line in lines)[asked.removesuffix(":")]


def _solve_addition(context: str) -> str:
    return str(sum(map(int, re.findall(r"\d+", context.rpartition("\n")[2]))))


def _solve_comparison(context: str) -> str:
    return max(re.findall(r"\d+", context.rpartition("\n")[2]), key=int)


def _solve_sorting(context: str) -> str:
    return " ".join(sorted(re.findall(r"\d", context.rpartition("\n")[2])))


def _solve_brackets(context: str) -> str:
    rest, before = context.replace(" ", ""), ""
    while rest != before:
        before, rest = rest, re.sub(r"\(\)|\[\]|\{\}|<>", "", rest)
    return {"(": ")", "[": "]", "{": "}", "<": ">"}[rest[-1]]


def _solve_cloze(context: str) -> str:
    """The text is known: what follows the context there."""
    return TEXT[TEXT.index(context) + len(context) :].split(".")[0].strip()


SOLVERS: dict[str, Callable[[str], str]] = {
    "copying": _solve_copying,
    "induction": _solve_induction,
    "recall": _solve_recall,
    "addition": _solve_addition,
    "comparison": _solve_comparison,
    "sorting": _solve_sorting,
    "brackets": _solve_brackets,
    "cloze": _solve_cloze,
}


def _is_solved(probe: str, question: Question) -> bool:
    right = [
        place for place, choice in enumerate(question.choices) if choice.strip() == SOLVERS[probe](question.context)
    ]
    return right == [question.gold]


@pytest.mark.parametrize("name", list(PROBES))
def test_a_rule_solves_every_question(name: str) -> None:
    for split in ("calibration", "held-out"):
        questions = PROBES[name].ask(N, split, [TEXT])
        assert len(questions) >= N // 2
        assert all(_is_solved(name, each) for each in questions)
        assert all(len(set(each.choices)) == len(each.choices) == PROBES[name].choices for each in questions)
        assert len({each.context for each in questions}) == len(questions)


@pytest.mark.parametrize("name", [name for name, each in PROBES.items() if not each.of_text])
def test_calibration_and_held_out_share_no_problem(name: str) -> None:
    probe = PROBES[name]
    asked = [
        {(each.context.rpartition("\n")[2], each.choices[int(each.gold)]) for each in probe.ask(400, split)}
        for split in ("calibration", "held-out")
    ]
    assert not asked[0] & asked[1]


@pytest.mark.parametrize("name", list(PROBES))
def test_questions_are_always_the_same(name: str) -> None:
    probe = PROBES[name]
    assert probe.name == name
    assert probe.ask(N, texts=[TEXT]) == probe.ask(N, texts=[TEXT])
    assert name == "cloze" or probe.ask(N, seed=1) != probe.ask(N)
    assert [each.context for each in probe.ask(N // 2, texts=[TEXT])] == [
        each.context for each in probe.ask(N, texts=[TEXT])
    ][: N // 2]


@pytest.mark.parametrize("name", list(PROBES))
def test_every_place_is_right_as_often_as_the_others(name: str) -> None:
    counts = Counter(each.gold for each in PROBES[name].ask(N, texts=[TEXT]))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert set(counts) == set(range(PROBES[name].choices))


def test_keys_are_asked_for_at_every_distance() -> None:
    found = Counter()
    for each in PROBES["recall"].ask(80):
        *lines, asked = each.context.split("\n")
        found[len(lines) - next(i for i, line in enumerate(lines) if line.startswith(f"{asked} "))] += 1
    assert set(found) == set(range(1, 9))


def test_the_documentation_lists_them() -> None:
    rows = [f"| `{name}` | {each.label} | {each.source} |" for name, each in PROBES.items()]
    assert table("| probe | what | source |") == rows


def test_a_text_without_sentences_has_no_cloze() -> None:
    with pytest.raises(TaskError, match="no question"):
        PROBES["cloze"].ask(N, texts=["no sentence here"])


def test_questions_come_from_the_windows_of_their_split(llama: LoadedModel) -> None:
    corpus = llama.tokenize("python-docs", 30 * 128, 128)
    for split in ("calibration", "held-out"):
        texts = [llama.tokenizer.decode(row) for row in corpus.split(split).ids]
        for each in make_questions(llama, corpus, PROBES["cloze"], 9, split):
            assert any(each.context + each.choices[int(each.gold)] in text for text in texts)


@pytest.mark.parametrize("name", [name for name in PROBES if name not in ("cloze", "sorting")])
def test_a_uniform_model_is_at_chance(llama: LoadedModel, llama_corpus: Corpus, name: str) -> None:
    """All choices of as many tokens as the right one are equally likely, and the first of equals counts as chosen."""
    head = llama.model.get_output_embeddings().weight
    before = head.detach().clone()
    with torch.no_grad():
        head.zero_()
    try:
        found = ask_probe(llama, llama_corpus, PROBES[name], [NONE], Store(None), limit=N)
    finally:
        with torch.no_grad():
            head.copy_(before)
    alike = [len({len(request.continuation) for request in item}) == 1 for item in make_items(llama, found.questions)]
    right = [value for value, same in zip(found.answers[0].values["acc"], alike, strict=True) if same]
    if all(alike):
        assert sum(right) / len(right) == pytest.approx(found.chance)
        assert found.at_chance
    assert set(found.answers[0].values["exact"]) == {0.0}
