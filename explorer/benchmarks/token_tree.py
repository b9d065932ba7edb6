"""Requests -> a tree of tokens: what they begin with alike is there once, and is run once. Knows no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64

from explorer.benchmarks.request import Request


@dataclass(frozen=True)
class TokenTree:
    """Tokens, each behind one before it, and which of them are asked for what comes next.

    Args:
        ids: token ids, each after the one that it follows.
        parents: place of the token before each; -1 where there is none.
        asked: for each request its predictions: (place, id that is to come there).
    """

    ids: tuple[int, ...]
    parents: tuple[int, ...]
    asked: tuple[tuple[tuple[int, int], ...], ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_path(self) -> bool:
        """Whether each token follows the one before it, as in plain text."""
        return self.parents == tuple(range(-1, len(self) - 1))

    @cached_property
    def depths(self) -> Int64[np.ndarray, " positions"]:
        """How many tokens are before each on its branch."""
        depths = np.zeros(len(self), dtype=np.int64)
        for place, parent in enumerate(self.parents):
            depths[place] = depths[parent] + 1 if parent >= 0 else 0
        return depths

    @cached_property
    def sees(self) -> Bool[np.ndarray, "positions positions"]:
        """What each token (row) sees: itself and those before it on its branch."""
        sees = np.eye(len(self), dtype=bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                sees[place] |= sees[parent]
        return sees

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """A digest for each request, of the whole tree and of its number: the key under which its nats are stored."""
        whole = hashlib.sha256(repr((self.ids, self.parents, self.asked)).encode()).hexdigest()
        numbers = range(len(self.asked))
        return tuple(hashlib.sha256(f"{whole}/{number}".encode()).hexdigest()[:32] for number in numbers)


def plant(requests: Sequence[Request]) -> TokenTree:
    """Make the tree of some requests."""
    places: dict[tuple[int, int], int] = {}  # (parent, id) -> place
    asked = []
    for request in requests:
        path = list(_descend(places, request.given))
        start = len(path) - len(request.continuation)
        asked.append(tuple(zip(path[start:], request.continuation, strict=True)))
    return TokenTree(tuple(token for _, token in places), tuple(parent for parent, _ in places), tuple(asked))


def _descend(places: dict[tuple[int, int], int], ids: Iterable[int]) -> Iterator[int]:
    """Yield the places of tokens one behind the other, made where there are none."""
    place = -1
    for token in ids:
        place = places.setdefault((place, token), len(places))
        yield place
