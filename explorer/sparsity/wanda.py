"""Weights that count little for what they multiply become zeros: Wanda, arXiv:2306.11695."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import ModifyError
from explorer.modifiers import Fitted, LinearMap, Modifier, Option, Setting
from explorer.sparsity.allocation import ALLOCATION, allocate
from explorer.sparsity.sparsity import SPARSITY_OPTIONS, Entries, Marks
from explorer.sparsity.stream import Stream, find_norms, sum_squares
from explorer.sparsity.targets import LAYERS, TARGETS, Target

_NEAR, _MOST = 0.001, 0.8  # of the variant: how near the share is met, the largest share of a row's scores


def score_wanda(weight: Entries, norms: Float[Tensor, "*experts columns"]) -> Entries:
    """S_ij = |W_ij| norm2(x_j)."""
    return weight.abs() * norms.unsqueeze(-2)


def find_smallest_sums(scores: Entries, share: float) -> Marks:
    """Zero in each row the lowest scores that together are at most a share of the row's sum: Wanda's variant.

    That share is the same for all rows, bisected until the matrix has so many zeros; rows then differ.
    """
    if scores.ndim > 2:
        return torch.stack([find_smallest_sums(each, share) for each in scores])
    ordered, places = scores.sort(dim=-1, stable=True)
    sums = ordered.double().cumsum(-1)
    low, high, part = 0.0, _MOST, _MOST / 2
    while True:
        taken = sums <= part * sums[:, -1:]
        found = float(taken.double().mean())
        if abs(found - share) <= _NEAR or high - low < _NEAR:
            return torch.zeros_like(taken).scatter(-1, places, taken)
        low, high = (low, part) if found > share else (part, high)
        part = (low + high) / 2


def fit_wanda(setting: Setting) -> Fitted:
    """Zero the lowest scores of each row or group, layer by layer, each scored as it still is."""
    stream = Stream(setting)
    for target in stream.prune(allocate(setting)):
        squares = stream.sum_up(target, sum_squares)
        for linear in target.maps:
            scores = score_wanda(target.weight(linear), find_norms(squares[linear.name]))
            target.zero(linear, _choose(target, linear, scores))
    return setting.fitted


def _choose(target: Target, linear: LinearMap, scores: Entries) -> Marks:
    if target.setting.options["variant"] == "no":
        return target.choose(linear, scores)
    if target.sparsity.group:
        raise ModifyError("Wanda's variant has no pattern", str(target.sparsity), "Use sparsity=50%")
    return target.tell(linear, scores, find_smallest_sums(scores, float(target.sparsity.share)))


WANDA = Modifier(
    "wanda", "Wanda", "Wanda, arXiv:2306.11695", "weights",
    "The weights of each row that are smallest times the norm of what they multiply become zeros.",
    "two passes", fit_wanda,
    (
        *SPARSITY_OPTIONS, TARGETS, LAYERS, ALLOCATION,
        Option("variant", "zeros in a row by their share of its scores' sum", "no", ("no", "yes")),
    ),
    needs_mask=False,
)  # fmt: skip
