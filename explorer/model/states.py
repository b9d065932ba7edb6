"""Hidden states of all windows at one depth: off the device, in a file of their own beyond a budget."""

from __future__ import annotations

import math
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import DeviceError
from explorer.model.forward_policies import Hidden

#: Bytes of states that are held in memory.
MOST_BYTES = 2**30


@dataclass
class StatesBudget:
    """Bytes that states may take in memory, all that share it together.

    Args:
        left: bytes that are not taken.
    """

    left: int = MOST_BYTES

    def take(self, size: int) -> bool:
        """Take bytes, if there are so many."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        """Give bytes back."""
        self.left += size


class States:
    """Hidden states of (windows, window, width), written and read some windows at a time.

    Args:
        shape: (windows, window, width).
        dtype: of the model.
        folder: where a file of them may lie; where temporary files do, if None.
        budget: what they take of, and give back when they are let go; of their own if None.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        folder: Path | None = None,
        budget: StatesBudget | None = None,
    ) -> None:
        self.shape, self.dtype, self.folder = shape, dtype, folder
        self.budget = StatesBudget() if budget is None else budget
        self._window = shape[1] * shape[2] * dtype.itemsize
        self._tensor: Float[Tensor, "windows window width"] | None = None
        self._file: BinaryIO | None = None
        if self.budget.take(self.nbytes):
            self._tensor = torch.empty(shape, dtype=dtype)
            weakref.finalize(self, self.budget.give, self.nbytes)
        else:
            self._file = tempfile.TemporaryFile(dir=folder, prefix="states-")  # noqa: SIM115
            weakref.finalize(self, self._file.close)

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Float[Tensor, "windows window width"]:
        """Return the states of some windows, where they lie if that is in memory."""
        if self._tensor is not None:
            return self._tensor[rows]
        assert self._file is not None
        start, stop, _ = rows.indices(len(self))
        made = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        self._file.seek(start * self._window)
        self._file.readinto(_bytes_of(made))  # type: ignore[attr-defined]
        return made

    def __setitem__(self, rows: slice, hidden: Hidden) -> None:
        """Put the states of some windows. Raises DeviceError if the disk is full."""
        if self._tensor is not None:
            self._tensor[rows] = hidden
            return
        assert self._file is not None
        self._file.seek(rows.indices(len(self))[0] * self._window)
        try:
            self._file.write(_bytes_of(hidden.to("cpu", self.dtype).contiguous()))
            self._file.flush()
        except OSError as error:
            found = f"{self.folder or tempfile.gettempdir()} ({error.strerror})"
            raise DeviceError("Cannot keep hidden states on the disk", found, "Use --cache, or fewer tokens") from None

    def like(self, dtype: torch.dtype | None = None) -> States:
        """Return room for as many states, of another dtype if one is given."""
        return States(self.shape, dtype or self.dtype, self.folder, self.budget)

    def copy(self) -> States:
        """Return the same states once more, copied a window at a time."""
        made = self.like()
        for row in range(len(self)):
            made[row : row + 1] = self[row : row + 1]
        return made


def _bytes_of(tensor: Float[Tensor, " *any"]) -> memoryview:
    return tensor.view(-1).view(torch.uint8).numpy().data
