"""Logits -> next-token loss, divergence from the unpruned model; states -> distance from the unpruned model's."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from explorer.model import Ids

Logits = Float[Tensor, "batch window vocabulary"]


def find_next_token_loss(logits: Logits, ids: Ids) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of the predicted tokens."""
    return F.cross_entropy(_predicting(logits), ids[:, 1:].flatten().to(logits.device))


def find_divergence(logits: Logits, teacher: Logits) -> Float[Tensor, ""]:
    """Return the mean KL divergence of a teacher's predictions to those of logits, over the predicted tokens."""
    found, wanted = (F.log_softmax(_predicting(each), -1) for each in (logits, teacher))
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean")


def _predicting(logits: Logits) -> Float[Tensor, "positions vocabulary"]:
    wide = torch.promote_types(logits.dtype, torch.float32)
    return logits[:, :-1].flatten(0, 1).to(wide)


def find_top_divergence(
    logits: Logits,
    log_probs: Float[Tensor, "batch positions outputs"],
    tokens: Int[Tensor, "batch positions chosen"],
) -> Float[Tensor, ""]:
    """Return the mean KL divergence of a teacher's predictions to those of logits, all but some tokens taken as one.

    Args:
        logits: of all tokens.
        log_probs: of the teacher, for each of `tokens`, and one more for all others together.
        tokens: those that are told apart.
    """
    found, chosen = F.log_softmax(_predicting(logits), -1), tokens.flatten(0, 1)
    rest = found.scatter(-1, chosen, -torch.inf).logsumexp(-1, keepdim=True)
    parts = torch.cat([found.gather(-1, chosen), rest], -1)
    return F.kl_div(parts, log_probs.flatten(0, 1).to(parts.dtype), log_target=True, reduction="batchmean")


def find_state_loss(
    states: Float[Tensor, "batch window width"], wanted: Float[Tensor, "batch window width"]
) -> Float[Tensor, ""]:
    """Return the mean over tokens of |x - y|^2 / |y|^2 + 1 - cos(x, y)."""
    off = (states - wanted).square().sum(-1) / wanted.square().sum(-1).clamp_min(1e-12)
    return (off + 1 - F.cosine_similarity(states, wanted, dim=-1)).mean()
