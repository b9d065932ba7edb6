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
        gold: which choice is right, or the right text.
    """

    context: str
    choices: tuple[str, ...]
    gold: int | str


def read_question(sample: dict[str, Any]) -> Question:
    """Return the question of a sample of lm-evaluation-harness."""
    arguments: Sequence[Sequence[Any]] = sample["arguments"]
    contexts = list(dict.fromkeys(each[0] for each in arguments))
    target = sample["target"]
    gold = target if isinstance(target, int) else str(target)
    if not all(len(each) == 2 and isinstance(each[1], str) for each in arguments):
        return Question(contexts[0], (), gold)
    if len(contexts) == 1:
        return Question(contexts[0], tuple(each[1] for each in arguments), gold)
    return Question("", tuple("".join(each) for each in arguments), gold)
