"""Units that may go, losses -> masks of 0, 1, 2 ... of them: greedy, beam and evolution. Imports no torch.

A search asks for the losses of lists of masks on slices of the calibration windows, and for nothing else, so that
another executor can answer. What it has asked before is stored by whoever answers: a search that was stopped goes
on from there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from explorer.masks import NONE, Mask
from explorer.numerics import LossFunction, Race, race
from explorer.progress import Progress, unreported

#: Tells whether enough is off.
Enough = Callable[[Mask], bool]

_CHILDREN = 4  # of each of the `width` parents that a generation stands for
_AT_ONCE = 2  # candidates that a lazy step asks for together
_STALE = 3  # generations without a better one, after which evolution goes on to the next size


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        masks: what is off after 0, 1, 2 ... steps; the first is empty.
        losses: of each mask on all windows, but for the first, which is not asked for: 0.
        evaluations: masks times windows that each step asked for.
        rankings: the units that each step could remove, the one that costs least first; of greedy steps only.
    """

    masks: tuple[Mask, ...] = (NONE,)
    losses: tuple[float, ...] = (0.0,)
    evaluations: tuple[int, ...] = (0,)
    rankings: tuple[tuple[Mask, ...], ...] = ((),)

    def then(self, mask: Mask, loss: float, evaluations: int, ranking: tuple[Mask, ...] = ()) -> SearchResult:
        """Return the same with one more step."""
        return SearchResult(
            (*self.masks, mask),
            (*self.losses, loss),
            (*self.evaluations, evaluations),
            (*self.rankings, ranking),
        )


@dataclass(frozen=True)
class Search:
    """What all searches need.

    Args:
        units: what may be removed, each a mask; they do not overlap.
        losses: gives what is to be low.
        n_windows: how many calibration windows there are.
        steps: removals at the most.
        confidence: by which races drop candidates; 1 is exact.
        enough: ends the search with the first mask of which it is true.
        progress: told candidates times windows within a step.
        listener: told what was found after each step.
        together: windows that cost as much as one of them.
    """

    units: Sequence[Mask]
    losses: LossFunction
    n_windows: int
    steps: int
    confidence: float = 0.95
    enough: Enough = lambda mask: False
    progress: Progress = unreported
    listener: Callable[[SearchResult], None] = field(default=lambda found: None)
    together: int = 1

    def greedy(self) -> SearchResult:
        """Remove, one after another, the unit whose removal costs least beside those already off.

        BlockPruner (arXiv:2406.10594). Costs units - k masks at step k + 1, less what the races save.
        """
        found = SearchResult()
        while self._goes_on(found):
            last = found.masks[-1]
            candidates = self._grown([last])
            won = self._race(candidates, found)
            ranking = tuple(candidates[place] - last for place in won.order)
            found = found.then(won.winner, won.totals[0], won.evaluations, ranking)
            self.listener(found)
        return found

    def greedy_lazily(self) -> SearchResult:
        """Remove the same as `greedy`, if only a neighbour of what is off costs less beside more that is off.

        After Minoux, "Accelerated greedy algorithms", 1978. What a unit cost beside fewer is then the least that it can
        cost now: a step asks for the neighbours of what is off and for others in the order of those costs, some at a
        time, until none that is left can win. It runs no races.
        """
        found, all_windows = SearchResult(), slice(0, self.n_windows)
        total = math.fsum(self.losses([NONE], all_windows)[0])
        least = dict.fromkeys(self.units, -math.inf)  # that the removal of each can cost
        while self._goes_on(found):
            last, losses = found.masks[-1], dict[Mask, float]()
            waiting = sorted((unit for unit in self.units if not unit <= last), key=least.__getitem__)
            some = self._find_likely(last, waiting) if last else waiting
            while some:
                rows = self.losses([last | unit for unit in some], all_windows)
                losses |= {unit: math.fsum(row) for unit, row in zip(some, rows, strict=True)}
                waiting = [unit for unit in waiting if unit not in losses]
                some = [unit for unit in waiting if total + least[unit] <= min(losses.values())][:_AT_ONCE]
                self._tell(found, len(losses), len(losses) + len(waiting), f"{len(waiting)} candidates left")
            best = min((unit for unit in self.units if unit in losses), key=losses.__getitem__)
            least |= {unit: loss - total if math.isfinite(total) else -math.inf for unit, loss in losses.items()}
            ranking = sorted([*losses, *waiting], key=lambda unit: (losses.get(unit, math.inf), least[unit]))
            total = losses[best]
            found = found.then(last | best, total, len(losses) * self.n_windows, tuple(ranking))
            self.listener(found)
        return found

    def beam(self, width: int) -> SearchResult:
        """Keep the best `width` masks of each size, and grow all of them; never worse than greedy at any size."""
        greedy, found = self.greedy(), SearchResult()
        kept: list[Mask] = [NONE]
        for step in range(1, len(greedy.masks)):
            candidates = self._aimed([greedy.masks[step], *self._grown(kept)], step, greedy)
            won = self._race(candidates, found, keep=width)
            kept = list(dict.fromkeys([*won.best, greedy.masks[step]]))
            best = won.winner, won.totals[0]
            if greedy.masks[step] in candidates:
                best = _least(best, (greedy.masks[step], greedy.losses[step]))
            found = found.then(*best, won.evaluations + greedy.evaluations[step])
            self.listener(found)
            if self._arrived(found, greedy):
                break
        return found

    def evolve(self, width: int, seed: int) -> SearchResult:
        """Swap units that are off for others, generation after generation, at every size; never worse than greedy.

        EvoPress (arXiv:2410.14649): children of the best mask swap one to three units, drawn rather from those that
        cost little in greedy's step; races give the children that look best more and more windows; the parent stays
        unless a child is better on all of them. A size may cost as much as greedy's step did, and starts from
        greedy's mask or from the size before, grown.
        """
        greedy, found, draw = self.greedy(), SearchResult(), random.Random(seed)
        for step in range(1, len(greedy.masks)):
            best, spent = (greedy.masks[step], greedy.losses[step]), 0
            stale, met = 0, {best[0]}
            children = self._regrown(found.masks[-1], greedy.masks[step], met)
            while spent < greedy.evaluations[step] and stale < _STALE:
                children += self._mutated(best[0], greedy.rankings[step], _CHILDREN * width - len(children), draw, met)
                if not children:
                    break
                won = self._race(children, found)
                spent += won.evaluations
                better = _least(best, (won.winner, won.totals[0]))
                best, stale, children = better, 0 if better != best else stale + 1, []
            found = found.then(*best, greedy.evaluations[step] + spent)
            self.listener(found)
            if self._arrived(found, greedy):
                break
        return found

    def _goes_on(self, found: SearchResult) -> bool:
        last, step = found.masks[-1], len(found.masks) - 1
        return step < min(self.steps, len(self.units)) and not self.enough(last)

    def _arrived(self, found: SearchResult, greedy: SearchResult) -> bool:
        """Tell whether enough is off, at no more than it costs greedily: masks of one size differ in what they free."""
        return self.enough(found.masks[-1]) and found.losses[-1] <= greedy.losses[-1]

    def _aimed(self, masks: Sequence[Mask], step: int, greedy: SearchResult) -> list[Mask]:
        """Each mask once; for the last step those that are enough, if there are any."""
        once = list(dict.fromkeys(masks))
        return once if step < len(greedy.masks) - 1 else [mask for mask in once if self.enough(mask)] or once

    def _race(self, candidates: Sequence[Mask], found: SearchResult, keep: int = 1) -> Race:
        progress = partial(self._tell, found)
        return race(candidates, self.losses, self.n_windows, self.confidence, keep, progress, self.together)

    def _tell(self, found: SearchResult, done: int, total: int, what: str) -> None:
        self.progress(done, total, f"Step {len(found.masks)} of at most {min(self.steps, len(self.units))}: {what}")

    def _find_likely(self, mask: Mask, waiting: Sequence[Mask]) -> list[Mask]:
        """Units next to one that is off, and the first of the others that wait."""
        near = {place + step for place, unit in enumerate(self.units) if unit <= mask for step in (-1, 1)}
        neighbours = [unit for place, unit in enumerate(self.units) if place in near and not unit <= mask]
        return neighbours + [unit for unit in waiting if unit not in neighbours][:_AT_ONCE]

    def _grown(self, masks: Sequence[Mask]) -> list[Mask]:
        """Masks with one unit more off, each once."""
        grown = (mask | unit for mask in masks for unit in self.units if not unit <= mask)
        return list(dict.fromkeys(grown))

    def _regrown(self, before: Mask, greedy: Mask, met: set[Mask]) -> list[Mask]:
        """The mask of the size before, with a unit that greedy has off too."""
        aimed = self.enough(greedy)
        for mask in self._grown([before]):
            if mask - before <= greedy and mask not in met and (self.enough(mask) or not aimed):
                met.add(mask)
                return [mask]
        return []

    def _mutated(
        self, parent: Mask, ranking: Sequence[Mask], count: int, draw: random.Random, met: set[Mask]
    ) -> list[Mask]:
        """Up to `count` masks not met before, each with one to three units swapped; enough if the parent is.

        What comes back is drawn evenly, what goes instead with the more weight the less it costs beside greedy's.
        """
        aimed = self.enough(parent)
        off = [unit for unit in self.units if unit <= parent]
        on = [unit for unit in self.units if not unit <= parent]
        weight = dict.fromkeys(on, 1.0) | {unit: 1 / place for place, unit in enumerate(ranking, 1)}
        children: list[Mask] = []
        for _ in range(10 * count):
            swaps = min(draw.randint(1, 3), draw.randint(1, 3), len(off), len(on))
            if swaps == 0 or len(children) == count:
                break
            back = frozenset().union(*(unit.sites for unit in draw.sample(off, swaps)))
            going = sorted(on, key=lambda unit: draw.expovariate(weight[unit]))[:swaps]
            gone = frozenset().union(*(unit.sites for unit in going))
            child = Mask((parent.sites - back) | gone)
            if child not in met and (self.enough(child) or not aimed):
                met.add(child)
                children.append(child)
        return children


def _least(*found: tuple[Mask, float]) -> tuple[Mask, float]:
    """The mask with the least loss, the first of equals."""
    return min(found, key=lambda entry: entry[1])
