"""Hidden states of all windows at one depth: off the device, in a file of their own beyond a budget."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.model.forward_policies import Hidden

#: Bytes of one depth's states that are held in memory.
MOST_BYTES = 2**30


class States:
    """Hidden states of (windows, window, width), written and read some windows at a time.

    Args:
        shape: (windows, window, width).
        dtype: of the model.
        folder: where a file of them may lie; where temporary files do, if None.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, folder: Path | None = None) -> None:
        numbers = shape[0] * shape[1] * shape[2]
        self._file = None
        if numbers * dtype.itemsize <= MOST_BYTES:
            self._tensor = torch.empty(shape, dtype=dtype)
        else:
            self._file = tempfile.NamedTemporaryFile(dir=folder, prefix="states-")  # noqa: SIM115
            self._file.truncate(numbers * dtype.itemsize)
            self._tensor = torch.from_file(self._file.name, shared=True, size=numbers, dtype=dtype).view(shape)

    @property
    def shape(self) -> torch.Size:
        """(windows, window, width)."""
        return self._tensor.shape

    def __len__(self) -> int:
        return len(self._tensor)

    def __getitem__(self, rows: slice) -> Float[Tensor, "windows window width"]:
        """Return the states of some windows, where they lie."""
        return self._tensor[rows]

    def __setitem__(self, rows: slice, hidden: Hidden) -> None:
        self._tensor[rows] = hidden

    def like(self) -> States:
        """Return room for as many states."""
        return States(tuple(self.shape), self._tensor.dtype, self._file and Path(self._file.name).parent)  # type: ignore[arg-type]
