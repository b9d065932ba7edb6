"""Probe: questions of one kind, made from a seed; calibration questions share no problem with held-out ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from explorer.benchmarks.question import Question
from explorer.errors import TaskError
from explorer.text import Split

Draw = np.random.Generator


class Problem(NamedTuple):
    """A question before its choices are put in an order.

    Args:
        context: what comes before the answer.
        right: the answer, as it follows.
        wrong: what else there is to choose from.
    """

    context: str
    right: str
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """One kind of question.

    Args:
        name: in `PROBES`.
        label: its name in a list.
        source: where such questions were asked.
        choices: how many answers there are to choose from.
        function: gives problems, from random numbers and pieces of text; endless, but for what is made of the text.
        of_text: whether problems are made of the text, each piece of which is of one split.
    """

    name: str
    label: str
    source: str
    choices: int
    function: Callable[[Draw, Sequence[str]], Iterator[Problem]]
    of_text: bool = False

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / self.choices

    def ask(
        self, number: int, split: Split = "held-out", texts: Sequence[str] = (), seed: int = 0
    ) -> tuple[Question, ...]:
        """Make questions: always the same ones; each place among the choices is right as often as the others.

        Args:
            number: of questions; there are fewer where the text has no more.
            split: which a problem is of by its digest, if it is not made of the text.
            texts: pieces of the split's text.
            seed: of the random numbers.

        Raises:
            TaskError: the text has none.
        """
        draw = np.random.default_rng([seed, *self.name.encode()])
        stream = (each for each in self.function(draw, texts) if self.of_text or _find_split(each) == split)
        problems = list(islice(stream, number))
        if not problems:
            raise TaskError(f"The probe {self.name} has no question", "the text is too short", "Use more --tokens")
        places = draw.permutation(np.arange(len(problems)) % self.choices)
        return tuple(_arrange(each, int(place)) for each, place in zip(problems, places, strict=True))


def _find_split(problem: Problem) -> Split:
    """Tell which split a problem is of, by its last line and its answer."""
    asked = problem.context.rpartition("\n")[2] + problem.right
    return "calibration" if hashlib.sha256(asked.encode()).digest()[0] & 1 else "held-out"


def _arrange(problem: Problem, gold: int) -> Question:
    choices = [*problem.wrong[:gold], problem.right, *problem.wrong[gold:]]
    return Question(problem.context, tuple(choices), gold)


#: Common words, of one token each for most tokenizers.
WORDS = (
    "apple", "bird", "book", "chair", "cloud", "door", "fish", "flower", "garden", "glass", "horse", "house",
    "king", "lake", "letter", "moon", "mouse", "paper", "river", "road", "school", "ship", "snow", "stone",
    "street", "table", "train", "tree", "water", "window", "winter", "wood",
)  # fmt: skip


def choose(draw: Draw, words: tuple[str, ...], number: int) -> list[str]:
    """Draw so many words, all different."""
    return [words[place] for place in draw.permutation(len(words))[:number]]
