"""How many windows go through a model at once: what fits, and less after memory ran out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from explorer.errors import DeviceError
from explorer.memory import free_bytes

#: Tokens in a batch at the most. A CPU loses its caches with more; a GPU is filled by these.
MOST_TOKENS = {"cpu": 1024, "cuda": 32768}


class Batches:
    """The batch size of one model on one device. It is found from free memory and remembers when that ran out.

    Args:
        device: where the model's input goes.
        bytes_per_token: what a token needs on its way through a layer.
        alone: one window at a time, for models whose numbers depend on what else is in the batch.
    """

    def __init__(self, device: torch.device, bytes_per_token: int, alone: bool = False) -> None:
        self.device, self.alone = device, alone
        half = free_bytes(device) // 2
        self.tokens = min(MOST_TOKENS.get(device.type, MOST_TOKENS["cpu"]), half // bytes_per_token)

    def run(
        self, work: Callable[[slice], None], n_windows: int, window: int, tokens: int | None = None,
        relieve: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Call `work` on consecutive slices that cover all windows.

        A slice that runs out of memory is tried again in halves, and so are all slices after it; `work` must bear
        being called again for windows that it has done.

        Args:
            work: called with slices of range(n_windows).
            n_windows: how many windows there are.
            window: token ids in a window.
            tokens: fewer tokens at once than would fit.
            relieve: called when memory ran out, to give back what can be spared.

        Raises:
            DeviceError: one window alone does not fit.
        """
        done = 0
        while done < n_windows:
            size = 1 if self.alone else max(1, min(self.tokens, tokens or self.tokens) // window)
            rows = slice(done, min(done + size, n_windows))
            try:
                work(rows)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                count = rows.stop - rows.start
                if count == 1:
                    raise DeviceError(
                        f"Out of memory on {self.device}",
                        f"one window of {window} tokens does not fit",
                        "Use a shorter --window",
                    ) from None
                self.tokens = count * window // 2
            else:
                done = rows.stop
                continue
            relieve()  # after the handler, which holds the frames of the work that failed
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def count_bytes_per_token(config: Any, itemsize: int) -> int:
    """Bytes that a token needs in a layer: a dozen states, and what the MLP and attention widen it to."""
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", None) or 4 * config.hidden_size
    chosen = getattr(config, "num_experts_per_tok", None) or 1
    return itemsize * (16 * config.hidden_size + 4 * chosen * inner)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the device's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
