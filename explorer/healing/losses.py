"""Logits -> next-token loss, divergence from the unpruned model; states -> distance from the unpruned model's."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from explorer.healing.vocabulary_loss import (
    Logits,
    against_likeliest,
    against_predictions,
    against_tokens,
    find_mean_loss,
)
from explorer.model import Ids


def find_next_token_loss(logits: Logits, ids: Ids) -> Float[Tensor, ""]:
    """Return the mean negative log-likelihood of the predicted tokens."""
    return find_mean_loss(logits, against_tokens(ids.to(logits.device)))


def find_divergence(logits: Logits, teacher: Logits) -> Float[Tensor, ""]:
    """Return the mean KL divergence of a teacher's predictions to those of logits, over the predicted tokens."""
    return find_mean_loss(logits, against_predictions(teacher))


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
    return find_mean_loss(logits, against_likeliest(log_probs, tokens))


def find_state_loss(
    states: Float[Tensor, "batch window width"], wanted: Float[Tensor, "batch window width"]
) -> Float[Tensor, ""]:
    """Return the mean over tokens of |x - y|^2 / |y|^2 + 1 - cos(x, y)."""
    off = (states - wanted).square().sum(-1) / wanted.square().sum(-1).clamp_min(1e-12)
    return (off + 1 - F.cosine_similarity(states, wanted, dim=-1)).mean()
