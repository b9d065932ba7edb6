"""Method: a way to choose what to remove, with the function that does; Planner: what it may ask. Knows no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from explorer.masks import Mask
from explorer.measures import SimilarityStats
from explorer.plans.search import Search

UNITS = ("layer", "attention", "mlp", "site")
SITES_FIRST = ("site", "layer", "attention", "mlp")


@dataclass(frozen=True)
class Option:
    """An option that a method has.

    Args:
        name: of a field of `PlanSpec`.
        label: what it means to this method.
    """

    name: str
    label: str


ITERATIVE = Option("iterative", "measure again after each removal")
SEED = Option("seed", "of what is drawn at random")
CRITERION = Option("criterion", "what the search lowers")
MODIFY = Option("modify", "what makes up for each mask before it is judged")
CONFIDENCE = Option("confidence", "of the races by which candidates are dropped; 1 is exact")


class Planner(Protocol):
    """The model, the text and the options of one plan, as a method sees them."""

    @property
    def n_layers(self) -> int:
        """L of the model."""

    @property
    def units(self) -> list[Mask]:
        """What may be removed, each a mask."""

    @property
    def protected(self) -> frozenset[int]:
        """The layers that stay whole."""

    @property
    def iterative(self) -> bool:
        """Whether to measure again after each removal."""

    @property
    def seed(self) -> int:
        """Of what is drawn at random."""

    @property
    def width(self) -> int:
        """What the method's own option of this name says."""

    def follow(self, masks: Iterable[Mask]) -> tuple[Mask, ...]:
        """Take masks of 0, 1, 2 ... steps up to the last that the plan may have, each told as it comes."""

    def search(self, confidence: float | None = None) -> Search:
        """Return a search by the plan's criterion; by its confidence too, if no other is given."""

    def similarity(self, mask: Mask) -> SimilarityStats:
        """Measure the residual stream under a mask."""

    def rank(self, measure: str) -> list[Mask]:
        """Return the units from the most to the least redundant, by a measure of the whole model."""

    def find_least_influence(self, left: list[Mask], mask: Mask) -> Mask:
        """Return the one of the units left that has the least block influence under a mask."""


@dataclass(frozen=True)
class Method:
    """A way to choose what to remove.

    Args:
        name: in `METHODS`.
        label: its name on a figure.
        source: where it was published.
        units: what it can rank; the first is the paper's.
        function: gives what is off after 0, 1, 2 ... steps.
        needs: what it reads of the model; empty if nothing.
        cost: what it takes.
        options: those that it has.
    """

    name: str
    label: str
    source: str
    units: tuple[str, ...]
    function: Callable[[Planner], tuple[Mask, ...]]
    needs: str
    cost: str
    options: tuple[Option, ...] = ()

    @property
    def iterative(self) -> bool:
        """Whether it can measure again after each removal."""
        return ITERATIVE in self.options

    @property
    def soon_made(self) -> bool:
        """Whether all windows go through the model once at the most, unless it measures again."""
        return self.cost in ("no pass", "one pass")

    @property
    def search(self) -> bool:
        """Whether it lowers a criterion, one removal after another."""
        return CRITERION in self.options
