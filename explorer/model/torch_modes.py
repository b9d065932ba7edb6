"""What torch keeps for a thread beside data: set back at the border of a piece of work, afterwards as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def default_modes() -> Iterator[None]:
    """Run a block as a new thread would: gradients on, no inference mode, no autocast, float32, no device named.

    torch's modes belong to the thread, not to the context: work that runs inside other work is in its modes too. Random
    numbers that the block draws are not missing from the stream of what is around it.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        yield


@contextmanager
def multiplying_as(dtype: torch.dtype) -> Iterator[None]:
    """Let float32 matrices whose numbers all are bfloat16 be multiplied as such, which is quick on some processors.

    Each product is exact and the sums are float32 either way. With another dtype nothing changes.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if dtype is torch.bfloat16 else before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
