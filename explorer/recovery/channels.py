"""A scale for each channel, in a Hadamard basis, where the cut is: LinearPatch, arXiv:2505.24680."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from explorer.deltas import StandIn
from explorer.modifiers import Fitted, Modifier, Pairs, Setting, check_layers_only
from explorer.numerics import make_hadamard
from explorer.recovery.scale import find_ratios
from explorer.recovery.stand_ins import fit_stand_ins


def find_patch(setting: Setting, pairs: Iterable[Pairs]) -> StandIn:
    """P = H diag(s) H', s_c = mean over windows of the mean |after_c| over the mean |before_c|, in the basis H."""
    basis = torch.from_numpy(make_hadamard(setting.loaded.config.hidden_size))
    ratios = find_ratios(pairs, basis)
    return StandIn(weight=(basis * (ratios - 1)) @ basis.T)


def _fit(setting: Setting) -> Fitted:
    check_layers_only(setting)
    return fit_stand_ins(setting, find_patch)


CHANNELS = Modifier(
    "channels", "Scale of each channel", "LinearPatch, arXiv:2505.24680", "stand-ins",
    "Where layers are off every channel of a Hadamard basis is scaled to its size after them.", "one pass", _fit,
)  # fmt: skip
