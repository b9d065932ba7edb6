"""Addition, comparison and sorting of numbers, after two solved examples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from explorer.benchmarks.probes.probe import Draw, Probe, Problem

_SOLVED = 2  # examples before each question
_LEAST, _MOST = 10, 100  # numbers of two digits


def _draw_number(draw: Draw) -> int:
    return int(draw.integers(_LEAST, _MOST))


def _add(draw: Draw, texts: Sequence[str]) -> Iterator[Problem]:
    """Two numbers of two digits; wrong are sums that are off by one or ten."""
    while True:
        *solved, (one, other) = [(_draw_number(draw), _draw_number(draw)) for _ in range(_SOLVED + 1)]
        before = "".join(f"{a} + {b} = {a + b}\n" for a, b in solved)
        off = [(1, -1, 10, -10)[place] for place in draw.permutation(4)[:3]]
        yield Problem(f"{before}{one} + {other} =", f" {one + other}", tuple(f" {one + other + by}" for by in off))


def _compare(draw: Draw, texts: Sequence[str]) -> Iterator[Problem]:
    """Two different numbers of two digits; asked is for the larger one."""
    while True:
        pairs = [draw.permutation(range(_LEAST, _MOST))[:2].tolist() for _ in range(_SOLVED + 1)]
        lines = [f"The larger of {one} and {other} is" for one, other in pairs]
        before = "".join(f"{line} {max(pair)}.\n" for line, pair in zip(lines[:-1], pairs[:-1], strict=True))
        yield Problem(before + lines[-1], f" {max(pairs[-1])}", (f" {min(pairs[-1])}",))


def _sort(draw: Draw, texts: Sequence[str]) -> Iterator[Problem]:
    """Three different digits, not in order; wrong are other orders of the same, the given one among them."""
    while True:
        rows = [_shuffle(draw) for _ in range(_SOLVED + 1)]
        before = "".join(f"{_write(row)} sorted: {_write(sorted(row))}\n" for row in rows[:-1])
        low, middle, high = sorted(rows[-1])
        others = [
            [middle, low, high],
            [low, high, middle],
            [high, middle, low],
            [middle, high, low],
            [high, low, middle],
        ]
        others.sort(key=lambda order: order != rows[-1])
        wrong = tuple(f" {_write(order)}" for order in others[:3])
        yield Problem(f"{before}{_write(rows[-1])} sorted:", f" {_write(sorted(rows[-1]))}", wrong)


def _shuffle(draw: Draw) -> list[int]:
    digits = [int(digit) for digit in draw.permutation(10)[:3]]
    return digits if digits != sorted(digits) else digits[::-1]


def _write(digits: list[int]) -> str:
    return " ".join(map(str, digits))


ADDITION = Probe("addition", "Addition of two digits", "Brown et al., arXiv:2005.14165", 4, _add)
COMPARISON = Probe("comparison", "The larger number", "Hanna et al., arXiv:2305.00586", 2, _compare)
SORTING = Probe("sorting", "Sorting of three digits", "Weiss et al., arXiv:2106.06981", 4, _sort)
