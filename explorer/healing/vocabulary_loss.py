"""Logits -> a mean loss and its gradient in one pass over the vocabulary, a few positions at a time in float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

Logits = Float[Tensor, "batch window vocabulary"]
_Rows = Float[Tensor, "positions vocabulary"]
#: Log-probabilities at positions of a window, and which -> the sum of their losses, its gradient by the logits.
Loss = Callable[[_Rows, tuple[int, slice]], tuple[Float[Tensor, ""], _Rows]]

_CHUNK = 1 << 20  # logits in float32 at a time, 4 MiB: they stay in a processor's own cache


def find_mean_loss(logits: Logits, loss: Loss) -> Float[Tensor, ""]:
    """Return the mean of a loss over the positions that predict a token, all but the last of each window."""
    return _MeanLoss.apply(logits, loss)


class _MeanLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Logits, loss: Loss) -> Float[Tensor, ""]:
        wide, (batch, window, vocabulary) = torch.promote_types(logits.dtype, torch.float32), logits.shape
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float64, device=logits.device)
        for place in _cut(batch, window - 1, max(1, _CHUNK // vocabulary)):
            found, slope = loss(torch.log_softmax(logits[place].to(wide), -1), place)
            total += found
            if gradient is not None:
                gradient[place] = slope
        if gradient is not None:
            gradient[:, -1] = 0
            ctx.save_for_backward(gradient)
        ctx.count = batch * (window - 1)
        return (total / ctx.count).to(wide)

    @staticmethod
    def backward(ctx: Any, slope: Float[Tensor, ""]) -> tuple[Logits, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * (slope / ctx.count).to(gradient.dtype), None


def _cut(rows: int, positions: int, step: int) -> Iterator[tuple[int, slice]]:
    for row in range(rows):
        for at in range(0, positions, step):
            yield row, slice(at, min(at + step, positions))


def against_tokens(ids: Int[Tensor, "batch window"]) -> Loss:
    """Return the negative log-likelihood of the tokens that follow."""

    def loss(found: _Rows, place: tuple[int, slice]) -> tuple[Float[Tensor, ""], _Rows]:
        row, positions = place
        wanted = ids[row, positions.start + 1 : positions.stop + 1, None]
        total = -found.gather(1, wanted).sum(dtype=torch.float64)
        return total, found.exp_().scatter_add_(1, wanted, -torch.ones_like(wanted, dtype=found.dtype))

    return loss


def against_predictions(teacher: Logits) -> Loss:
    """Return the KL divergence of a teacher's predictions, given by its logits, to those found."""

    def loss(found: _Rows, place: tuple[int, slice]) -> tuple[Float[Tensor, ""], _Rows]:
        wanted = torch.log_softmax(teacher[place].to(found.dtype), -1)
        likely = wanted.exp()
        total = likely.mul(wanted.sub_(found)).sum(dtype=torch.float64)
        return total, found.exp_().sub_(likely)

    return loss


def join_others(
    log_probs: Float[Tensor, "*positions vocabulary"], chosen: Int[Tensor, "*positions chosen"]
) -> Float[Tensor, "*positions outputs"]:
    """Return the log-probabilities of chosen tokens, and behind them that of all others together."""
    rest = log_probs.scatter(-1, chosen, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probs.gather(-1, chosen), rest], -1)


def against_likeliest(
    log_probs: Float[Tensor, "batch positions outputs"], tokens: Int[Tensor, "batch positions chosen"]
) -> Loss:
    """Return the KL divergence of a teacher's predictions to those found, all but its likeliest tokens taken as one.

    Args:
        log_probs: of the teacher, for each of `tokens`, and one more for all others together.
        tokens: those that are told apart.
    """

    def loss(found: _Rows, place: tuple[int, slice]) -> tuple[Float[Tensor, ""], _Rows]:
        wanted, chosen = log_probs[place].to(found.dtype), tokens[place].long()
        parts = join_others(found, chosen)
        own, rest, likely, off = parts[:, :-1], parts[:, -1:], wanted.exp(), wanted - parts
        total = torch.where(likely > 0, likely * off, 0).sum(dtype=torch.float64)
        share = torch.where(rest.isfinite(), off[:, -1:].exp(), 0)  # of the rest's mass, the teacher's over that found
        return total, found.exp_().mul_(1 - share).scatter_(1, chosen, own.exp() - likely[:, :-1])

    return loss
