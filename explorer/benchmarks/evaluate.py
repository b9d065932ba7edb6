"""LoadedModel, [Variant], names of tasks and probes -> [Evaluation]."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer.benchmarks.catalogue import ALL_PROBES, PROBE, PROBES
from explorer.benchmarks.evaluation import Aggregate, Answers, Evaluation
from explorer.benchmarks.likelihoods import find_likelihoods
from explorer.benchmarks.probes.probe import Probe
from explorer.benchmarks.question import Question, read_question
from explorer.benchmarks.request import Item, Likelihood, RequestEncoder
from explorer.deltas import Variant
from explorer.errors import TaskError
from explorer.extras import require
from explorer.masks import NONE, Mask
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus, Split, decode

#: Questions of a probe, if not told otherwise.
QUESTIONS = 100


@dataclass(frozen=True)
class Asking:
    """How tasks are asked.

    Args:
        include: a folder with files of tasks.
        limit: items of each, the first ones; if None all, and `QUESTIONS` of a probe.
        num_fewshot: solved items before each; as the task says, if None.
        chat: put items in the model's chat template.
    """

    include: Path | None = None
    limit: int | None = None
    num_fewshot: int | None = None
    chat: bool = False


def evaluate(
    loaded: LoadedModel,
    corpus: Corpus,
    variants: Sequence[Mask | Variant],
    store: Store,
    tasks: Sequence[str] = (ALL_PROBES,),
    asking: Asking = Asking(),
    progress: Progress = unreported,
) -> list[Evaluation]:
    """Ask the unpruned model and variants the items of tasks and probes. What is stored is not computed again.

    Args:
        loaded: the model.
        corpus: the text, of whose held-out windows the probe `cloze` is made.
        variants: what is off, and changed.
        store: where answers are kept.
        tasks: names, groups or tags of lm-evaluation-harness; `probe:NAME`; `probes` for all of these.
        asking: how they are asked.
        progress: told how many items are answered.

    Raises:
        TaskError: no such task or probe, a file that is wrong, items that cannot be had.
        MissingExtra: lm-evaluation-harness is not installed.
        MaskError: a variant names a layer that the model lacks.
        UnsupportedModel: the model is streamed, and a task has it write.
        Cancelled: `progress` raised it; what was finished stays stored.
    """
    probes = [name for task in tasks for name in _list_probes(task)]
    others = [task for task in tasks if not _list_probes(task)]
    asked = list(dict.fromkeys([NONE, *(variant.checked(loaded.n_layers) for variant in variants)]))
    found = [ask_probe(loaded, corpus, PROBES[name], asked, store, asking.limit, progress) for name in probes]
    return found + (list(_ask_harness(loaded, asked, store, others, asking, progress)) if others else [])


def _list_probes(task: str) -> list[str]:
    """List the probes that a name stands for; none if it is that of a task. Raises TaskError: no such probe."""
    if task == ALL_PROBES:
        return list(PROBES)
    name = task.removeprefix(PROBE)
    if task.startswith(PROBE) and name not in PROBES:
        raise TaskError("Unknown probe", repr(name), "Use one of " + ", ".join(PROBES))
    return [name] if task.startswith(PROBE) else []


def ask_probe(
    loaded: LoadedModel,
    corpus: Corpus,
    probe: Probe,
    variants: Sequence[Mask | Variant],
    store: Store,
    limit: int | None = None,
    progress: Progress = unreported,
    split: Split = "held-out",
) -> Evaluation:
    """Ask variants, the unpruned model first, the questions of a probe."""
    questions = make_questions(loaded, corpus, probe, limit or QUESTIONS, split)
    found = find_likelihoods(loaded, make_items(loaded, questions), variants, store, progress)
    answers = tuple(_judge(*pair, questions) for pair in zip(variants, found, strict=True))
    return Evaluation(PROBE + probe.name, probe.chance, questions, {"acc": _mean, "exact": _mean}, answers)


def make_questions(
    loaded: LoadedModel, corpus: Corpus, probe: Probe, number: int, split: Split
) -> tuple[Question, ...]:
    """Make a probe's questions, of the windows of a corpus where they are made of text."""
    texts = [decode(loaded.tokenizer, row.tolist(), skip_special_tokens=True) for row in corpus.split(split).ids]
    return probe.ask(number, split, texts)


def make_items(loaded: LoadedModel, questions: Sequence[Question]) -> list[Item]:
    """Return the requests of questions, one a choice."""
    encoder = RequestEncoder.of(loaded)
    return [tuple(encoder.pair(each.context, choice) for choice in each.choices) for each in questions]


def _judge(variant: Mask | Variant, found: Sequence[Sequence[Likelihood]], questions: Sequence[Question]) -> Answers:
    """Tell which choice is the likeliest, and whether greedy decoding writes the right one."""
    chosen = tuple(choose(likelihoods) for likelihoods in found)
    right = tuple(float(choice == each.gold) for choice, each in zip(chosen, questions, strict=True))
    exact = tuple(each[int(question.gold)].greedy for each, question in zip(found, questions, strict=True))
    return Answers(variant, {"acc": right, "exact": exact}, chosen, tuple(map(tuple, found)))


def choose(likelihoods: Sequence[Likelihood]) -> int:
    """Return the number of the likeliest choice, the first of equals; of a single one, whether greedy decoding has it.

    Where the arithmetic overflowed a choice is the unlikeliest.
    """
    if len(likelihoods) == 1:
        return int(likelihoods[0].greedy)
    return int(np.argmin([each.nll for each in likelihoods]))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _ask_harness(
    loaded: LoadedModel,
    variants: Sequence[Mask | Variant],
    store: Store,
    names: Sequence[str],
    asking: Asking,
    progress: Progress,
) -> Iterator[Evaluation]:
    """Ask variants, the unpruned model first, the items of tasks of lm-evaluation-harness."""
    require("lm_eval")
    from explorer.benchmarks.harness import HarnessModel
    from explorer.benchmarks.tasks import ask_tasks, load_tasks

    tasks = load_tasks(names, asking.include, asking.num_fewshot)
    samples, likelihoods = [], []
    with HarnessModel(loaded, variants, store, progress) as model:
        for variant in variants:
            model.answer_as(variant)
            samples.append(ask_tasks(model, tasks, asking.limit, asking.chat))
            likelihoods.append(model.likelihoods)
    for name, task in tasks["tasks"].items():
        read = (
            _read_answers(name, *each) for each in zip(variants, (s[name] for s in samples), likelihoods, strict=True)
        )
        answers = tuple(read)
        aggregates = {metric: _find_aggregate(task, metric) for metric in answers[0].values}
        first = _first_filter(samples[0][name])
        questions = tuple(read_question(task, each) for each in first)
        yield Evaluation(name, _find_chance(first), questions, aggregates, answers)


def _first_filter(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a task's samples, each item once: there is one for each way of reading an answer."""
    return [each for each in samples if each["filter"] == samples[0]["filter"]]


def _read_answers(
    name: str,
    variant: Mask | Variant,
    samples: Sequence[dict[str, Any]],
    likelihoods: Mapping[tuple[str, int], Sequence[Likelihood]],
) -> Answers:
    values: dict[str, list[Any]] = {}
    for sample in samples:
        for metric in sample["metrics"]:
            key = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
            values.setdefault(key, []).append(sample[metric])
    first = _first_filter(samples)
    of_items = tuple(tuple(likelihoods.get((name, each["doc_id"]), ())) for each in first)
    chosen = tuple(
        choose(item) if item else str(each["filtered_resps"][0]) for item, each in zip(of_items, first, strict=True)
    )
    return Answers(variant, {metric: tuple(each) for metric, each in values.items()}, chosen, of_items)


def _find_aggregate(task: Any, metric: str) -> Aggregate:
    aggregate: Callable[[Sequence[Any]], float] = task.aggregation()[metric.partition(",")[0]]
    return aggregate


def _find_chance(samples: Sequence[dict[str, Any]]) -> float | None:
    """Mean of one over the number of choices; None where no item has two."""
    counts = [len(each["arguments"]) for each in samples]
    return float(np.mean([1 / count for count in counts])) if max(counts) > 1 else None
