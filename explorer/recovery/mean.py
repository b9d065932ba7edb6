"""A removed block or site adds its mean update: Siddiqui et al., arXiv:2407.16286."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from explorer.deltas import StandIn
from explorer.modifiers import Fitted, Modifier, Pairs, Setting
from explorer.recovery.stand_ins import fit_stand_ins


def find_mean(setting: Setting, pairs: Iterable[Pairs]) -> StandIn:
    """B = mean over all tokens of what is missing."""
    total, count = torch.zeros(setting.loaded.config.hidden_size, dtype=torch.float64), 0
    for batch in pairs:
        total += batch.y.double().sum((0, 1)).cpu()
        count += batch.y.shape[0] * batch.y.shape[1]
    return StandIn(bias=total / count)


def _fit(setting: Setting) -> Fitted:
    return fit_stand_ins(setting, find_mean)


MEAN = Modifier(
    "mean", "Mean update", "Siddiqui et al., arXiv:2407.16286", "stand-ins",
    "What is off adds the mean of what it would have added.", "one pass", _fit,
)  # fmt: skip
