"""Logits -> next-token loss, divergence from the unpruned model; states -> distance from the unpruned model's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from explorer.healing.student import Objective
from explorer.healing.vocabulary_loss import Logits, against_predictions, against_tokens, find_mean_loss
from explorer.model import Ids, LoadedModel, Twin


def find_next_token_loss(logits: Logits, ids: Ids) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of the predicted tokens."""
    return find_mean_loss(logits, against_tokens(ids.to(logits.device)))


def find_divergence(logits: Logits, teacher: Logits) -> Float[Tensor, ""]:
    """Return the mean KL divergence of a teacher's predictions to those of logits, over the predicted tokens."""
    return find_mean_loss(logits, against_predictions(teacher))


def find_state_loss(
    states: Float[Tensor, "batch window width"], wanted: Float[Tensor, "batch window width"]
) -> Float[Tensor, ""]:
    """Return the mean over tokens of |x - y|^2 / |y|^2 + 1 - cos(x, y)."""
    off = (states - wanted).square().sum(-1) / wanted.square().sum(-1).clamp_min(1e-12)
    return (off + 1 - F.cosine_similarity(states, wanted, dim=-1)).mean()


@torch.no_grad()
def ask_teacher(loaded: LoadedModel, ids: Ids) -> Logits:
    """Return the unpruned model's logits: the same weights, with nothing off and nothing changed."""
    return loaded.model(ids, use_cache=False).logits


def predict(loaded: LoadedModel, twin: Twin, windows: Int[Tensor, "windows window"], kind: str) -> Objective:
    """Return what a twin is to lower on windows: the loss `lm`, `kl`, or the sum of `both`."""

    def objective(run: Callable[..., Any], rows: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        ids = windows[rows.to(windows.device)].to(loaded.device)
        teacher = ask_teacher(loaded, ids) if kind != "lm" else None
        with twin.running():
            logits = run(ids, use_cache=False).logits
        losses = [find_next_token_loss(logits, ids)] if kind != "kl" else []
        losses += [find_divergence(logits, teacher)] if teacher is not None else []
        return torch.stack(losses).sum()

    return objective
