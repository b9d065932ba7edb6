"""What is to be lowered: a loss of windows, by what a twin predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from explorer.healing.losses import find_next_token_loss
from explorer.healing.teacher import Teacher
from explorer.model import LoadedModel, Twin


class Objective(Protocol):
    """What is to be lowered."""

    def __call__(self, run: Callable[..., Any], rows: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Return the mean loss of some windows, by number, of the module that `run` runs with what is trained."""


def predict(
    loaded: LoadedModel, twin: Twin, windows: Int[Tensor, "windows window"], loss: str, teacher: Teacher | None
) -> Objective:
    """Return what a twin is to lower on windows: the loss `lm`, `kl`, the divergence from a teacher, or `both`."""

    def objective(run: Callable[..., Any], rows: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        ids = windows[rows.to(windows.device)].to(loaded.device)
        with twin.running():
            logits = run(ids, use_cache=False).logits
        losses = [find_next_token_loss(logits, ids)] if loss != "kl" else []
        losses += [teacher(rows, ids, logits)] if teacher is not None else []
        return torch.stack(losses).sum()

    return objective
