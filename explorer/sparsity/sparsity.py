"""How many zeros a matrix gets, and where they may be: a share of each row, or all but N of M neighbours in it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from explorer.deltas import ModifierSpec
from explorer.errors import ModifyError
from explorer.modifiers import Option

#: Numbers of the entries of a matrix, or of those of several experts.
Entries = Float[Tensor, "*experts outputs columns"]

#: Some of the entries of these.
Marks = Bool[Tensor, "*experts outputs columns"]

_PAIRED = 16  # columns at most of which any two are compared

#: The modifiers that put zeros into matrices.
METHODS = ("magnitude", "wanda", "sparsegpt", "wanda++")

#: The options by which they are told how many.
SPARSITY_OPTIONS = (
    Option("sparsity", "share of zeros in each row", "50%", form=r"\d{1,2}(\.\d+)?%", example="50%"),
    Option(
        "pattern", "N:M keeps N of M neighbours in a row, in place of a share", "none", word="none",
        form=r"[1-9]\d{0,2}:[1-9]\d{0,2}", example="2:4, which keeps 2 of 4",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Sparsity:
    """How many zeros, and where.

    Args:
        share: of zeros among the neighbours.
        group: how many neighbours are judged against each other; all of a row if 0.
    """

    share: Fraction
    group: int = 0

    @classmethod
    def of(cls, spec: ModifierSpec) -> Sparsity:
        """Read a modifier's options.

        Raises ModifyError: both a share and a pattern are given, or a pattern keeps all.
        """
        given = dict(spec.options)
        pattern = given.get("pattern", "none")
        if pattern == "none":
            return cls(Fraction(given.get("sparsity", "50%").removesuffix("%")) / 100)
        if "sparsity" in given:
            raise ModifyError("A pattern has its own share of zeros", str(spec), "Give sparsity or pattern")
        kept, group = map(int, pattern.split(":"))
        if kept >= group:
            raise ModifyError("A pattern keeps N of M", f"{pattern} keeps all", "Write N:M with N below M, such as 2:4")
        return cls(1 - Fraction(kept, group), group)

    def __str__(self) -> str:
        kept = (1 - self.share) * self.group
        return f"{kept}:{self.group}" if self.group else f"{float(self.share):.4g}"

    def at(self, share: float) -> Sparsity:
        """Return this with another share."""
        return replace(self, share=Fraction(share))

    def count(self, columns: int) -> int:
        """Return how many of so many columns of a row become zeros."""
        return floor(self.share * columns)

    def check(self, name: str, columns: int) -> None:
        """Raise ModifyError if the rows of a matrix cannot be cut into groups."""
        if self.group and columns % self.group:
            raise ModifyError(
                f"{self} needs rows that {self.group} divides", f"{name} has {columns} columns",
                "Use sparsity=50%, or targets= to leave it out",
            )  # fmt: skip

    def holds(self, zeros: Marks) -> bool:
        """Tell whether each group has as many zeros as it is to have, or more."""
        grouped = zeros.unflatten(-1, (-1, self.group or zeros.shape[-1]))
        return bool((grouped.sum(-1) >= self.count(grouped.shape[-1])).all())

    def find_lowest(self, scores: Entries) -> Marks:
        """Return where the zeros go: the lowest scores of each row or group, of equal ones the lower column."""
        grouped = scores.unflatten(-1, (-1, self.group or scores.shape[-1]))
        return find_lowest(grouped, self.count(grouped.shape[-1])).flatten(-2)


def find_lowest(scores: Float[Tensor, "*rows columns"], count: int) -> Bool[Tensor, "*rows columns"]:
    """Return True at so many of the lowest entries of each row; of equal ones at the first."""
    if scores.shape[-1] <= _PAIRED:
        return _rank(scores) < count
    if not count:
        return torch.zeros_like(scores, dtype=torch.bool)
    cut = scores.kthvalue(count, dim=-1, keepdim=True).values
    below, tied = scores < cut, scores == cut
    return below | (tied & (tied.cumsum(-1, dtype=torch.int32) <= count - below.sum(-1, keepdim=True)))


def _rank(scores: Float[Tensor, "*rows columns"]) -> UInt8[Tensor, "*rows columns"]:
    """Number the few entries of each row from the lowest on, by comparing any two; of equal ones the first is lower."""
    columns = scores.movedim(-1, 0).contiguous()
    size = len(columns)
    not_above = columns[:, None] <= columns
    first = torch.ones(size, size, dtype=torch.bool, device=scores.device).triu(1)
    lower = not_above.where(first.view(size, size, *[1] * (scores.ndim - 1)), ~not_above.transpose(0, 1))
    return lower.sum(0, dtype=torch.uint8).movedim(0, -1)
