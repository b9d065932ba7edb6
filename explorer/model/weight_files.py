"""Safetensors files of a checkpoint, read tensor by tensor when it is asked for; what was read is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.errors import ModelError, first_line


class WeightFiles:
    """The tensors of some files, by name.

    Files are read, not mapped: what was read and let go is not the process's any more.

    Args:
        paths: the files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        from safetensors import safe_open

        self._lock = threading.Lock()
        self._files: dict[str, Any] = {}
        self.bytes_read = 0
        for path in paths:
            file = safe_open(path, "pt", backend="pread")
            self._files |= dict.fromkeys(file.keys(), file)

    @property
    def names(self) -> list[str]:
        """Names of the tensors."""
        return list(self._files)

    def read(self, name: str) -> Float[Tensor, " *any"]:
        """Read a tensor. Raises ModelError if the file cannot be read any more."""
        try:
            tensor = self._files[name].get_tensor(name)
        except Exception as error:  # safetensors has an error of its own, under no base but this one
            raise ModelError("Cannot read the weights", f"{name} ({first_line(error)})", "Copy them again") from error
        with self._lock:
            self.bytes_read += tensor.nbytes
        return tensor

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, nothing of it read."""
        return tuple(self._files[name].get_slice(name).get_shape())


@dataclass(frozen=True)
class Unread:
    """A tensor that is read when it is sliced, as transformers does with those of safetensors."""

    files: WeightFiles
    name: str

    def __getitem__(self, index: Any) -> Tensor:
        return self.files.read(self.name)[index]


@dataclass(frozen=True)
class Outline:
    """A tensor of which nothing is read: sliced, it is one of the meta device."""

    files: WeightFiles
    name: str
    dtype: torch.dtype

    def __getitem__(self, index: Any) -> Tensor:
        return torch.empty(self.files.shape(self.name), dtype=self.dtype, device="meta")[index]
