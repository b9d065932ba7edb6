"""Names of tasks and probes -> items to decide by, kept apart from those that are judged by, and the loss on each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float64

from explorer.benchmarks.catalogue import PROBE, PROBES, TASK
from explorer.benchmarks.evaluate import make_items, make_questions
from explorer.benchmarks.likelihoods import find_likelihoods
from explorer.benchmarks.question import find_gold
from explorer.benchmarks.request import Item, RequestEncoder
from explorer.deltas import Variant
from explorer.errors import TaskError
from explorer.extras import require
from explorer.guarding import guarded
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus


@dataclass(frozen=True)
class CalibrationItems:
    """Items with choices, and which of these is right.

    Args:
        items: the requests, one a choice.
        gold: for each item the number of the right one.
    """

    items: tuple[Item, ...]
    gold: tuple[int, ...]

    @property
    def digest(self) -> str:
        """A digest of every token of the items, and of which choices are right."""
        tokens = [[(request.context, request.continuation) for request in item] for item in self.items]
        return hashlib.sha256(json.dumps([tokens, self.gold]).encode()).hexdigest()[:32]

    def __getitem__(self, chosen: slice) -> CalibrationItems:
        """Return some of the items."""
        return CalibrationItems(self.items[chosen], self.gold[chosen])

    def find_losses(
        self,
        loaded: LoadedModel,
        variants: Sequence[Mask | Variant],
        store: Store,
        progress: Progress = unreported,
    ) -> Float64[np.ndarray, "masks values"]:
        """Return for each variant and item the nats of the right choice among all: smooth where accuracy jumps.

        Infinite where the arithmetic overflowed. What is stored is not computed again.
        """
        found = find_likelihoods(loaded, self.items, variants, store, progress)
        logs = [[np.array([-each.nll for each in item]) for item in items] for items in found]
        with np.errstate(invalid="ignore"):
            losses = [
                [np.logaddexp.reduce(item) - item[gold] for item, gold in zip(items, self.gold, strict=True)]
                for items in logs
            ]
        return np.nan_to_num(np.array(losses), nan=np.inf, posinf=np.inf)


def make_calibration_items(loaded: LoadedModel, corpus: Corpus, criterion: str, number: int) -> CalibrationItems:
    """Make items to decide by: of a probe's calibration problems, or of a task's training documents.

    Args:
        loaded: the model.
        corpus: of whose calibration windows the probe `cloze` is made.
        criterion: `probe:NAME` or `task:NAME`.
        number: of items at the most.

    Raises:
        TaskError: there is no such task, it has no training documents, or its items have no choices.
    """
    if criterion.startswith(PROBE):
        questions = make_questions(loaded, corpus, PROBES[criterion.removeprefix(PROBE)], number, "calibration")
        gold = tuple(int(each.gold) for each in questions)
        return CalibrationItems(tuple(make_items(loaded, questions)), gold)
    require("lm_eval")
    from explorer.benchmarks.tasks import load_tasks

    tasks = load_tasks([criterion.removeprefix(TASK)])["tasks"].values()
    return _read_items(loaded, [*tasks], number)


def _read_items(loaded: LoadedModel, tasks: Sequence[Any], number: int) -> CalibrationItems:
    """Return the first training documents of some tasks as items, an equal share of each."""
    encoder, items, gold = RequestEncoder.of(loaded), list[Item](), list[int]()
    for task in tasks:
        if task.OUTPUT_TYPE != "multiple_choice" or not task.has_training_docs():
            found = f"{task.task_name} has no choices, or no training documents"
            raise TaskError("The task cannot be decided by", found, "Use another task, or a probe")
        with guarded("A task's training documents cannot be read", "Check its file", TaskError):
            for document in islice(task.training_docs(), -(-number // len(tasks))):
                context = task.fewshot_context(document, num_fewshot=0)
                requests = task.construct_requests(document, context, metadata=(task.task_name, 0, 1))
                items.append(tuple(encoder.pair(*request.args) for request in requests))
                gold.append(find_gold(task, document))
    return CalibrationItems(tuple(items), tuple(gold))
