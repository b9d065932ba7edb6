"""A GGUF model as fields and tensors, from files or to be written to one; tensors are read when they are written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
from jaxtyping import Shaped, UInt8

from explorer.checkpoints import find_parts

_CHUNK = 1 << 24  # bytes


@dataclass(frozen=True)
class Field:
    """A value of the metadata and its type; for arrays that of the entries, too."""

    value: Any
    type: GGUFValueType
    entries: GGUFValueType | None = None


@dataclass(frozen=True)
class Tensor:
    """A tensor to be written.

    Args:
        shape: outermost dimension first; in bytes along the last one if its blocks are of bytes.
        read: gives its data piece by piece.
        mapped: the same as rows of a file, where it is in one as it is.
    """

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], Iterator[Shaped[np.ndarray, " ..."]]]
    mapped: Shaped[np.ndarray, " ..."] | None = None

    @property
    def size(self) -> int:
        """Bytes of data."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class GgufModel:
    """Metadata and tensors, in their order."""

    architecture: str
    fields: dict[str, Field]
    tensors: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value that belongs to the architecture, such as `block_count`."""
        field = self.fields.get(f"{self.architecture}.{name}")
        return default if field is None else field.value

    def with_fields(self, **changes: Field) -> GgufModel:
        """Return this model with some of the architecture's values set; `__` in a name stands for a dot."""
        named = {f"{self.architecture}.{name.replace('__', '.')}": field for name, field in changes.items()}
        return replace(self, fields={**self.fields, **named})


def read_gguf(path: Path) -> GgufModel:
    """Read the metadata of a file, or of all parts of a split one; tensors stay mapped.

    The last file is remembered: a vocabulary takes seconds.
    """
    paths = tuple(find_parts(path))
    return _read(paths, tuple(part.stat().st_mtime_ns for part in paths))


@lru_cache(maxsize=1)
def _read(paths: tuple[Path, ...], mtimes_ns: tuple[int, ...]) -> GgufModel:
    readers = [GGUFReader(path) for path in paths]
    fields = {
        name: Field(field.contents(), field.types[0], field.types[-1] if len(field.types) > 1 else None)
        for name, field in readers[0].fields.items()
        if not name.startswith(("GGUF.", "split."))
    }
    tensors = [
        Tensor(t.name, t.tensor_type, tuple(t.data.shape), t.data.dtype, partial(_pieces, t.data), t.data)
        for reader in readers
        for t in reader.tensors
    ]
    return GgufModel(fields.pop("general.architecture").value, fields, tuple(tensors))


def _pieces(data: Shaped[np.ndarray, " ..."]) -> Iterator[UInt8[np.ndarray, " _"]]:
    flat = data.reshape(-1).view(np.uint8)
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK]


def make_zeros(name: str, *shape: int) -> Tensor:
    """Make a tensor of F16 zeros."""
    dtype = np.dtype(np.float16)
    return Tensor(name, GGMLQuantizationType.F16, shape, dtype, lambda: iter([np.zeros(shape, dtype)]))


def write_gguf(model: GgufModel, path: Path, report: Callable[[int], None]) -> None:
    """Write a file; `report` is told the bytes just written and may raise to stop."""
    writer = GGUFWriter(path, model.architecture)
    for name, field in model.fields.items():
        writer.add_key_value(name, field.value, field.type, field.entries)
        if name == "general.alignment":
            writer.data_alignment = int(field.value)
    for tensor in model.tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, tensor.dtype, tensor.size, tensor.type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        (file,) = writer.fout
        for tensor in model.tensors:
            writer.write_padding(file, file.tell())
            for piece in tensor.read():
                piece.tofile(file)
                report(piece.nbytes)
        writer.write_padding(file, file.tell())
        file.flush()
        os.fsync(file.fileno())
    finally:
        writer.close()
