"""Final states of the last tokens of windows, in two variants -> how far they turn."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn import functional as F

from explorer.storage import make_key


def find_turn(
    before: Float64[Tensor, "windows width"], after: Float64[Tensor, "windows width"]
) -> Float64[Tensor, " windows"]:
    """1 - cos of rows, as half the square of the distance of unit vectors: exact near 0; infinite by overflow."""
    unit = [F.normalize(each, dim=-1, eps=1e-300) for each in (before, after)]
    found = (unit[0] - unit[1]).square().sum(-1) / 2
    return torch.where(found.isfinite(), found, math.inf)


def make_turn_context(context: str) -> str:
    """Return the context under which turns from the unpruned model are stored, beside the nats of other contexts."""
    return make_key("last-token-cosine", context=context)
