"""Work that runs inside other work runs as a new thread would, and leaves the thread as it was."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

import pytest
import torch

from explorer.model.torch_modes import default_modes

AROUND = {
    "inference": torch.inference_mode,
    "no grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


def describe() -> tuple:
    """All that decides how torch computes, asked by computing."""
    weight = torch.ones(2, 2, requires_grad=True)
    product = weight @ torch.ones(2, 2)
    gradient = torch.autograd.grad(product.float().sum(), weight)[0] if product.requires_grad else None
    return (
        torch.is_inference_mode_enabled(), torch.is_grad_enabled(), product.dtype, product.is_inference(),
        torch.tensor(1.5).dtype, None if gradient is None else gradient.tolist(), torch.is_autocast_enabled("cpu"),
    )  # fmt: skip


def in_a_new_thread() -> tuple:
    found: list[tuple] = []
    thread = threading.Thread(target=lambda: found.append(describe()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize("around", AROUND.values(), ids=AROUND)
def test_a_block_runs_as_a_new_thread_would(around: type[AbstractContextManager]) -> None:
    expected = in_a_new_thread()
    with around():
        before = describe()
        assert before != expected
        with default_modes():
            assert describe() == expected
        assert describe() == before
    assert describe() == expected


def test_the_default_dtype_is_set_back_even_after_a_failure() -> None:
    def break_down() -> None:
        with default_modes():
            assert torch.tensor(1.5).dtype == torch.float32
            torch.set_default_dtype(torch.float16)
            raise ValueError("broke")

    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match="broke"):
            break_down()
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_numbers_drawn_inside_are_not_missing_outside() -> None:
    torch.manual_seed(5)
    expected = torch.rand(6)
    torch.manual_seed(5)
    first = torch.rand(3)
    with default_modes():
        torch.manual_seed(99)
        torch.rand(100)
    torch.testing.assert_close(torch.cat([first, torch.rand(3)]), expected, rtol=0, atol=0)
