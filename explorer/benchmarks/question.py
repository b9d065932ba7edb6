"""Question: an item in words, for probes and for whoever looks at what was answered. Knows no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """An item in words.

    Args:
        context: what comes before the answer.
        choices: answers to choose from; where they have contexts of their own, each with it. Empty for a written one.
        gold: which choice is right; 1 where there is one alone, and writing it is right; or the right text.
    """

    context: str
    choices: tuple[str, ...]
    gold: int | str


def read_question(task: Any, sample: dict[str, Any]) -> Question:
    """Return the question of a sample of a task of lm-evaluation-harness."""
    arguments: Sequence[Sequence[Any]] = sample["arguments"]
    contexts = list(dict.fromkeys(each[0] for each in arguments))
    if task.OUTPUT_TYPE not in ("multiple_choice", "loglikelihood"):
        return Question(contexts[0], (), str(sample["target"]))
    gold = find_gold(task, sample["doc"]) if len(arguments) > 1 else 1
    if len(contexts) == 1:
        return Question(contexts[0], tuple(each[1] for each in arguments), gold)
    return Question("", tuple("".join(each) for each in arguments), gold)


def find_gold(task: Any, document: Any) -> int:
    """Return the number of the right choice, as the harness finds it: where contexts differ they are the choices."""
    target = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    return task.doc_to_choice(document).index(target) if isinstance(target, str) else int(target)
