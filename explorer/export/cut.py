"""A tensor outside of the layers that has a part for each of them -> the parts of the layers that stay."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: A tensor's name in the files -> which parts of it are written; None for all.
Cutting = Callable[[str], "Cut | None"]


@dataclass(frozen=True)
class Cut:
    """Which of the equal parts are written that lie one after the other along a dimension.

    Args:
        shape: of the whole tensor.
        dimension: along which they lie.
        parts: how many there are.
        kept: which are written.
    """

    shape: tuple[int, ...]
    dimension: int
    parts: int
    kept: tuple[int, ...]

    @property
    def written(self) -> tuple[int, ...]:
        """Shape of what is written."""
        shape = list(self.shape)
        shape[self.dimension] = shape[self.dimension] // self.parts * len(self.kept)
        return tuple(shape)

    @property
    def numbers(self) -> int:
        """Numbers of the whole tensor from the first of one row of parts to the first of the next."""
        return math.prod(self.shape[self.dimension :])

    def take(self, rows: bytes, itemsize: int) -> bytes:
        """Return what is written of some rows of parts."""
        parts = np.frombuffer(rows, np.uint8).reshape(-1, self.parts, self.numbers * itemsize // self.parts)
        return parts[:, list(self.kept)].tobytes()


def find_cut(old: tuple[int, ...], new: tuple[int, ...], parts: int, kept: list[int]) -> Cut | None:
    """Return the cut that makes one shape of another, if one dimension has as many parts as there are layers."""
    other = [number for number, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]]
    if len(old) != len(new) or len(other) != 1 or old[other[0]] % parts:
        return None
    cut = Cut(old, other[0], parts, tuple(kept))
    return cut if cut.written == new else None
