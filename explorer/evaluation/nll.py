"""The last layer's output, token ids -> the nats of each predicted token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor
from torch.nn import functional as F

from explorer.deltas import Variant
from explorer.masks import Mask
from explorer.model import Hidden, Ids, ModelWrappers

WindowNll = Float64[np.ndarray, " batch"]

#: Bytes of float32 logits in memory at once. What malloc hands out again without new pages is below 32 MiB.
LOGIT_BYTES = {"cpu": 24 * 2**20, "cuda": 2**29}


def window_nll(wrappers: ModelWrappers, hidden: Hidden, ids: Ids, variant: Mask | Variant) -> WindowNll:
    """Sum the nats of each window's predicted tokens, from the last layer's output."""
    return token_nll(wrappers, hidden, ids, variant).sum(1).cpu().numpy()


def token_nll(
    wrappers: ModelWrappers, hidden: Hidden, ids: Ids, variant: Mask | Variant
) -> Float64[Tensor, "batch window-1"]:
    """Nats of each predicted token, infinite where the arithmetic overflowed.

    Logits exist for a few positions at a time.
    """
    finished, targets = wrappers.finish(hidden)[:, :-1], ids[:, 1:].to(hidden.device)
    nll = torch.empty(targets.shape, dtype=torch.float64, device=hidden.device)
    for block in slice_positions(wrappers, targets.shape, hidden.device.type):
        nll[block] = find_nll(wrappers.logits(finished[block].flatten(0, 1), variant), targets[block]).to(nll.device)
    return nll


def find_nll(
    logits: Float[Tensor, "_ vocabulary"], targets: Int[Tensor, "batch positions"]
) -> Float64[Tensor, "batch positions"]:
    """Nats of targets, from the logits of batch * positions places; infinite where those are not finite."""
    losses = F.cross_entropy(logits.float(), targets.flatten().to(logits.device), reduction="none")
    return losses.double().view(targets.shape).nan_to_num(nan=math.inf, posinf=math.inf)


def slice_positions(wrappers: ModelWrappers, shape: Sequence[int], device: str) -> Iterator[tuple[slice, slice]]:
    """Cut (batch, positions) into blocks whose float32 logits are few enough to be in memory at once."""
    rows, length = shape
    positions = max(1, LOGIT_BYTES.get(device, LOGIT_BYTES["cpu"]) // (4 * wrappers.vocabulary))
    step = max(1, positions // length)
    for top in range(0, rows, step):
        for left in range(0, length, positions):
            yield slice(top, min(top + step, rows)), slice(left, min(left + positions, length))
