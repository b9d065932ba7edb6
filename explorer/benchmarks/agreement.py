"""Answers of two variants to the same items -> how far they agree, right or wrong. Knows no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from explorer.benchmarks.request import Likelihood

#: Likelihoods of the requests of each item.
_Items = Sequence[Sequence[Likelihood]]

_MOST_DRAFTED = 16  # tokens at once


def find_kl(before: _Items, after: _Items) -> float | None:
    """Mean over items of KL(before || after) of the distributions over an item's choices, in nats.

    A choice has the probability of its continuation among those of all choices. None where no item has two choices;
    infinite where the arithmetic overflowed.
    """
    found = [_find_kl_of(*pair) for pair in zip(before, after, strict=True) if len(pair[0]) > 1]
    return float(np.mean(found)) if found else None


def _find_kl_of(before: Sequence[Likelihood], after: Sequence[Likelihood]) -> float:
    log_p, log_q = (_normalise(np.array([-each.nll for each in item], dtype=np.float64)) for item in (before, after))
    if not np.isfinite(log_p).all() or not np.isfinite(log_q).all():
        return float("inf")
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def _normalise(logs: Float64[np.ndarray, " values"]) -> Float64[np.ndarray, " values"]:
    with np.errstate(invalid="ignore"):
        return logs - np.logaddexp.reduce(logs)


def find_acceptance(before: _Items, after: _Items) -> float | None:
    """Mean over the tokens of all continuations of sum min(p, q): the share taken of what `after` drafts for `before`.

    That is the expected acceptance of speculative decoding (Leviathan et al., arXiv:2211.17192) at these tokens. None
    where there are none.
    """
    taken, tokens = (sum(each.accepted for item in items for each in item) for items in (after, before))
    return taken / tokens if tokens else None


def find_speed_up(acceptance: float, cost: float) -> float:
    """Return how many times faster the original writes if a variant drafts for it: 1 where it does not pay.

    See `find_best_draft`.
    """
    return max(1.0, find_best_draft(acceptance, cost)[1])


def find_best_draft(acceptance: float, cost: float) -> tuple[int, float]:
    """Return how many tokens a variant best drafts at once, and how many times faster the original then writes.

    With g tokens drafted at once (1 - a^(g+1)) / ((1 - a) (g c + 1)), at the best g up to 16 (Leviathan et al.).

    Args:
        acceptance: a, the expected share of drafted tokens that is taken.
        cost: c, seconds a token of the variant over those of the original.
    """
    found = {}
    for drafted in range(1, _MOST_DRAFTED + 1):
        written = sum(acceptance**taken for taken in range(drafted + 1))
        found[drafted] = written / (drafted * cost + 1)
    return max(found.items(), key=lambda each: each[1])
