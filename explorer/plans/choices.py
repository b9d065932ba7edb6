"""LoadedModel, [Corpus], [criterion] -> which units each text and objective removes first, and what that depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64

from explorer.errors import PlanError
from explorer.masks import Mask, find_units
from explorer.measures import make_loss_function
from explorer.model import LoadedModel
from explorer.numerics import VarianceShare, share_variance
from explorer.plans.search import Search
from explorer.progress import Count, Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus

#: How units are chosen: ranked once by the loss without each, or (lazily) greedily, beside those that are already off.
SEARCHES = ("one-shot", "greedy")
#: The factors of a choice, in the order of its axes.
FACTORS = ("text", "objective", "search")
#: What is asked if nothing is named: loss, KL, logit L2, the last token's cosine, and a probe.
OBJECTIVES = ("perplexity", "kl", "logit-l2", "last-token-cosine", "probe:copying")
_BRING_OTHERS = ("kl", "logit-l2")  # perplexity and the last token's cosine come along: these go first


@dataclass(frozen=True)
class Choices:
    """Which units are removed, by every text, objective and search.

    Args:
        texts, objectives: their names.
        units: what could be removed.
        removed: for each text, objective and search, whether each unit is among the first to go.
    """

    texts: tuple[str, ...]
    objectives: tuple[str, ...]
    units: tuple[Mask, ...]
    removed: Bool[np.ndarray, "... units"]

    @cached_property
    def agreement(self) -> Float64[np.ndarray, "values values"]:
        """Share of the units that one choice removes which the other removes too, text by text, then objectives."""
        rows = self.removed.reshape(-1, len(self.units)).astype(float)
        return rows @ rows.T / rows[0].sum()

    @property
    def cells(self) -> list[tuple[str, str, str, Mask]]:
        """Text, objective, search, and what they remove, in the order of `agreement`."""
        return [
            (text, objective, search, self.find(row, column, how))
            for row, text in enumerate(self.texts)
            for column, objective in enumerate(self.objectives)
            for how, search in enumerate(SEARCHES)
        ]

    @cached_property
    def variance(self) -> dict[str, VarianceShare]:
        """The share of the variance of what is removed that each factor explains."""
        return dict(zip(FACTORS, share_variance(self.removed.astype(float)), strict=True))

    def find(self, text: int, objective: int, search: int) -> Mask:
        """Return what one choice removes."""
        chosen = self.removed[text, objective, search]
        return Mask(frozenset().union(*(unit.sites for unit, off in zip(self.units, chosen, strict=True) if off)))


def compare_choices(
    loaded: LoadedModel,
    corpora: Sequence[Corpus],
    objectives: Sequence[str],
    number: int,
    store: Store,
    unit: str = "layer",
    progress: Progress = unreported,
) -> Choices:
    """Choose what to remove by every text's calibration windows, objective and search. What is stored comes at once.

    Args:
        loaded: the model.
        corpora: the texts.
        objectives: criteria of searches.
        number: of units to remove.
        store: where losses are kept.
        unit: what is removed at once.
        progress: told how many of the texts' objectives are done.

    Raises:
        PlanError: no text or objective, or too many units to remove.
        TaskError: see `make_calibration_items`.
        Cancelled: `progress` raised it; what was finished stays stored.
    """
    units = [each for each in find_units(loaded.n_layers, unit) if not each <= loaded.absent]
    if not corpora or not objectives or not 0 < number < len(units):
        found = f"{number} of {len(units)} units, {len(corpora)} texts, {len(objectives)} objectives"
        raise PlanError(
            "There is nothing to compare", found, f"Remove 1 to {len(units) - 1} units, by one text at least"
        )
    removed = np.zeros((len(corpora), len(objectives), len(SEARCHES), len(units)), dtype=bool)
    columns = sorted(range(len(objectives)), key=lambda column: objectives[column] not in _BRING_OTHERS)
    cells = [(row, column) for row in range(len(corpora)) for column in columns]
    count = Count(progress, len(cells), "Texts and objectives")
    for done, (row, column) in enumerate(cells):
        count.done = done
        losses = make_loss_function(loaded, corpora[row], store, objectives[column])
        search = Search(units, losses, len(corpora[row].calibration), number, progress=count.tell).greedy_lazily()
        once, last = search.rankings[1][:number], search.masks[-1]
        removed[row, column] = [[each in once for each in units], [each <= last for each in units]]
    return Choices(tuple(corpus.name for corpus in corpora), tuple(objectives), tuple(units), removed)
