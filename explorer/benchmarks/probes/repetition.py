"""Copying, induction and recall: what was said before, and is to be said again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from string import ascii_uppercase

from explorer.benchmarks.probes.probe import WORDS, Draw, Probe, Problem, choose

_LENGTH = 5  # words that are copied
_PAIRS = 5  # of letters
_FARTHEST = 8  # pairs between a key and its question


def _copy(draw: Draw, texts: Sequence[str]) -> Iterator[Problem]:
    """A row of words, and the same again up to one of them; the others of the row are wrong."""
    while True:
        words = choose(draw, WORDS, _LENGTH)
        right = int(draw.integers(1, _LENGTH))
        wrong = (words[:right] + words[right + 1 :])[-3:]
        yield Problem(f"{' '.join(words)}\n{' '.join(words[:right])}", f" {words[right]}", _as_answers(wrong))


def _induce(draw: Draw, texts: Sequence[str]) -> Iterator[Problem]:
    """Pairs of letters, one of which begins again: what followed its first letter follows once more."""
    while True:
        letters = choose(draw, tuple(ascii_uppercase), 2 * _PAIRS)
        firsts, seconds = letters[::2], letters[1::2]
        asked = int(draw.integers(_PAIRS))
        pairs = " ".join(f"{first} {second}" for first, second in zip(firsts, seconds, strict=True))
        others = [second for second in seconds if second != seconds[asked]]
        yield Problem(f"{pairs} {firsts[asked]}", f" {seconds[asked]}", _as_answers(others[:3]))


def _recall(draw: Draw, texts: Sequence[str]) -> Iterator[Problem]:
    """Keys with values, a line each; asked is for a key that is one line back, two, and so on."""
    for number in count():
        back = 1 + number % _FARTHEST
        words = choose(draw, WORDS, 2 * _FARTHEST)
        keys, values = words[:_FARTHEST], words[_FARTHEST:]
        lines = "\n".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True))
        others = values[:-back] + values[len(values) - back + 1 :]
        wrong = [others[place] for place in draw.permutation(len(others))[:3]]
        yield Problem(f"{lines}\n{keys[-back]}:", f" {values[-back]}", _as_answers(wrong))


def _as_answers(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(f" {word}" for word in words)


COPYING = Probe("copying", "Copying", "Olsson et al., arXiv:2209.11895", 4, _copy)
INDUCTION = Probe("induction", "Induction", "Olsson et al., arXiv:2209.11895", 4, _induce)
RECALL = Probe("recall", "Recall of values by key", "associative recall, arXiv:2312.04927", 4, _recall)
