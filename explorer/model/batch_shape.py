"""The one shape in which windows go through a model; a smaller one for work that runs out of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int

from explorer.errors import DeviceError
from explorer.model.forward_policies import Ids
from explorer.model.memory import free_bytes

#: Token ids in a batch at the most. With fewer the first estimate comes sooner, with more a GPU is filled.
MOST_TOKENS = {"cpu": 512, "cuda": 16384}

_T = TypeVar("_T")


class BatchShape:
    """How many windows go through one model on one device at once.

    What a processor computes for a window may depend on how many others are in the batch, in the last bits of float32
    and in the second digit of a bfloat16 loss. So every batch of windows has the same number of rows, the last one
    filled up, whoever asks; where memory forces another number, results are kept apart by it.

    Args:
        device: where the model's input goes.
        bytes_per_token: what a token needs on its way through a layer.
        one_window_at_a_time: one window at a time, for models whose numbers depend on what the other windows are.
    """

    is_fixed = False

    def __init__(self, device: torch.device, bytes_per_token: int, one_window_at_a_time: bool = False) -> None:
        self.device, self.one_window_at_a_time = device, one_window_at_a_time
        half = free_bytes(device) // 2
        self.tokens = min(MOST_TOKENS.get(device.type, MOST_TOKENS["cpu"]), half // bytes_per_token)

    def rows(self, window: int) -> int:
        """Windows of so many ids in a batch: a power of two, so that half of it is one too."""
        return 1 if self.one_window_at_a_time else 1 << max(0, (self.tokens // window).bit_length() - 1)

    def limited(self, tokens: int) -> BatchShape:
        """Return the shape of batches of no more than so many token ids, for windows of many lengths."""
        made = copy(self)
        made.tokens = min(self.tokens, tokens)
        return made

    def fixed(self, rows: int, window: int) -> BatchShape:
        """Return the shape of batches of so many windows, no fewer where memory runs out: that is then an error."""
        made = copy(self)
        made.tokens, made.is_fixed = rows * window, True
        return made

    def run(self, work: Callable[[int], _T], window: int, relieve: Callable[[], None] = lambda: None) -> _T:
        """Call `work` with the rows of a batch; when memory runs out begin it again, this work alone, with half.

        Args:
            work: called with how many windows are to go through the model at once.
            window: token ids in a window.
            relieve: called when memory ran out, to give back what can be spared.

        Raises:
            DeviceError: one window alone does not fit.
        """
        rows = self.rows(window)
        while True:
            try:
                return work(rows)
            except (RuntimeError, MemoryError) as error:
                if self.is_fixed or not is_out_of_memory(error):
                    raise
            if rows == 1:
                raise DeviceError(
                    f"Out of memory on {self.device}", f"one window of {window} tokens does not fit",
                    "Use a shorter --window",
                )  # fmt: skip
            rows //= 2
            relieve()  # after the handler, which holds the frames of the work that failed
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def slice_rows(n_windows: int, rows: int) -> Iterator[slice]:
    """Cut range(n_windows) into slices of so many rows; the last may be shorter."""
    return (slice(start, min(start + rows, n_windows)) for start in range(0, n_windows, rows))


def pad_batch(ids: Int[np.ndarray, "windows window"], rows: int, device: torch.device) -> Ids:
    """Make a batch of so many rows of windows that are no more, the last one repeated where there are fewer."""
    return torch.from_numpy(np.concatenate([ids, np.repeat(ids[-1:], rows - len(ids), axis=0)])).to(device)


def count_bytes_per_token(config: Any, itemsize: int) -> int:
    """Bytes that a token needs in a layer: a dozen states, and what the MLP and attention widen it to."""
    inner = getattr(config, "intermediate_size", None) or getattr(config, "ffn_dim", None) or 4 * config.hidden_size
    inner = max(inner) if isinstance(inner, (list, tuple)) else inner
    chosen = getattr(config, "num_experts_per_tok", None) or 1
    return itemsize * (16 * config.hidden_size + 4 * chosen * inner)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that the device's memory is full."""
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, Exception) and should_reduce_batch_size(error)
    )
