"""The last word of a sentence of the user's own text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from explorer.benchmarks.probes.probe import Draw, Probe, Problem

_SENTENCE = re.compile(r"[^.!?]+[.!?](?=\s)")
_LAST_WORD = re.compile(r"(.*\S)( [A-Za-z]{3,})[.!?]", re.DOTALL)
_BEFORE = 160  # characters of the text before a sentence's last word
_WRONG = 3  # words to choose from beside the right one


def _ask_last_words(draw: Draw, texts: Sequence[str]) -> Iterator[Problem]:
    """Sentences without their last words, with what comes before them; wrong are the last words of others."""
    found = [problem for text in texts for problem in _find_sentences(text)]
    words = sorted({word for _, word in found})
    for context, right in found:
        others = [word for word in words if word.lower() != right.lower()]
        wrong = tuple(others[place] for place in draw.permutation(len(others))[:_WRONG])
        if len(wrong) == _WRONG:
            yield Problem(context, right, wrong)


def _find_sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield each sentence up to its last word, with what comes before it, and that word."""
    for sentence in _SENTENCE.finditer(text):
        if match := _LAST_WORD.fullmatch(sentence[0]):
            end = sentence.start() + len(match[1])
            yield text[max(0, end - _BEFORE) : end].strip(), match[2]


CLOZE = Probe("cloze", "Last word of a sentence", "LAMBADA, arXiv:1606.06031", 4, _ask_last_words, of_text=True)
