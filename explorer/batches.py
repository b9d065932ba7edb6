"""How many windows fit at once: try, and halve when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import torch

from explorer.errors import DeviceError

#: Tokens in a batch to begin with. A CPU gains nothing from more; a GPU is filled by these.
TOKENS_AT_ONCE = {"cpu": 2048, "cuda": 16384}


def run_batched(
    work: Callable[[slice], None], n_windows: int, window: int, device: torch.device, tokens: int | None = None
) -> None:
    """Call `work` on consecutive slices of windows that cover all of them, of so many tokens if memory allows.

    A slice that runs out of memory is tried again in halves; `work` must change nothing before it succeeds.

    Raises:
        DeviceError: one window alone does not fit.
    """
    size = max(1, (tokens or TOKENS_AT_ONCE.get(device.type, 2048)) // window)
    done = 0
    while done < n_windows:
        rows = slice(done, min(done + size, n_windows))
        try:
            work(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if rows.stop - rows.start == 1:
                raise DeviceError(
                    f"Out of memory on {device}",
                    f"one window of {window} tokens does not fit",
                    "Use a shorter --window",
                ) from None
            size = (rows.stop - rows.start + 1) // 2
        else:
            done = rows.stop
            continue
        if device.type == "cuda":
            torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the device's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
