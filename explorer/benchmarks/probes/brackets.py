"""Brackets that are to be closed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from explorer.benchmarks.probes.probe import Draw, Probe, Problem

_PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}
_STEPS = 9  # brackets before the question, so that one at least is open


def _close(draw: Draw, texts: Sequence[str]) -> Iterator[Problem]:
    """A row of nested brackets; asked is for the one that closes the last one that is open."""
    kinds = list(_PAIRS)
    while True:
        row: list[str] = []
        open_: list[str] = []
        for step in range(_STEPS):
            left = _STEPS - step
            if open_ and (len(open_) > left or draw.random() < 0.4) and not (left == 1 and len(open_) == 1):
                row.append(_PAIRS[open_.pop()])
            else:
                open_.append(kinds[draw.integers(len(kinds))])
                row.append(open_[-1])
        right = _PAIRS[open_[-1]]
        yield Problem(" ".join(row), f" {right}", tuple(f" {each}" for each in _PAIRS.values() if each != right))


BRACKETS = Probe("brackets", "Closing brackets", "Dyck languages, arXiv:1911.03329", 4, _close)
