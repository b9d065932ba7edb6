"""Losses over the vocabulary and their gradients are those of plain autograd, whatever goes through at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from explorer.healing import vocabulary_loss
from explorer.healing.losses import find_divergence, find_next_token_loss

IDS = torch.randint(0, 50, (3, 7), generator=torch.Generator().manual_seed(0))


def draw(seed: int, dtype: torch.dtype) -> torch.Tensor:
    return (4 * torch.randn(3, 7, 50, generator=torch.Generator().manual_seed(seed))).to(dtype).requires_grad_()


def plain(kind: str, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    found, wanted = (each[:, :-1].flatten(0, 1) for each in (logits, teacher))
    if kind == "lm":
        return F.cross_entropy(found, IDS[:, 1:].flatten())
    found, wanted = found.log_softmax(-1), wanted.log_softmax(-1)
    return F.kl_div(found, wanted, log_target=True, reduction="batchmean")


@pytest.mark.parametrize("chunk", [1, 101, 1 << 20])
@pytest.mark.parametrize("kind", ["lm", "kl"])
def test_loss_and_gradient_are_plain_autograds(monkeypatch: pytest.MonkeyPatch, kind: str, chunk: int) -> None:
    monkeypatch.setattr(vocabulary_loss, "_CHUNK", chunk)
    logits, teacher = draw(1, torch.float64), draw(2, torch.float64).detach()
    found = find_next_token_loss(logits, IDS) if kind == "lm" else find_divergence(logits, teacher)
    (3 * found).backward()
    same = draw(1, torch.float64)
    expected = plain(kind, same, teacher)
    (3 * expected).backward()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(logits.grad, same.grad, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("kind", ["lm", "kl"])
def test_logits_in_bfloat16_are_compared_in_float32(kind: str) -> None:
    logits, teacher = draw(1, torch.bfloat16), draw(2, torch.bfloat16).detach()
    found = find_next_token_loss(logits, IDS) if kind == "lm" else find_divergence(logits, teacher)
    found.backward()
    same = draw(1, torch.bfloat16).detach().double().requires_grad_()
    expected = plain(kind, same, teacher.double())
    expected.backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert logits.grad is not None
    assert same.grad is not None
    torch.testing.assert_close(logits.grad.double(), same.grad, rtol=0.02, atol=1e-6)


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    with torch.no_grad():
        assert not find_next_token_loss(draw(1, torch.float32), IDS).requires_grad
