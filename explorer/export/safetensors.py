"""Safetensors files in, safetensors files out: bytes are copied, or rounded; what is changed comes from memory.

The format: eight bytes of header length, a JSON header (name -> dtype, shape, data_offsets), then the data.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

import torch
from jaxtyping import Float

from explorer.errors import ExportError
from explorer.export.cut import Cut, Cutting
from explorer.export.stored_dtype import StoredDtype

_CHUNK = 1 << 24  # bytes made at a time; memory does not grow with a tensor
_BUFFER = 1 << 21  # bytes copied at a time, by way of memory that stays in a processor's cache

#: What becomes of a tensor: its new name and whether it is zeroed; None drops it.
Placement = Callable[[str], "tuple[str, bool] | None"]

#: What takes a tensor's place, by its name and shape and whether it is written; None leaves it as it is.
Replacement = Callable[[str, tuple[int, ...], bool], "torch.Tensor | None"]

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def _leave(name: str, shape: tuple[int, ...], written: bool) -> None:
    return None


def _whole(name: str) -> None:
    return None


def _keep(name: str, dtype: torch.dtype) -> torch.dtype:
    return dtype


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, where it is and what becomes of it; with `data`, which is written instead, it is of none.

    Args:
        name, dtype, shape, size: as it is written; size in bytes.
        start: where it starts in its file.
        zeroed: whether zeros are written.
        data: what is written in its place.
        stored: its dtype in its file.
        cut: which parts of it are written, if not all are.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    zeroed: bool
    data: Float[torch.Tensor, " *any"] | None = None
    stored: str = ""
    cut: Cut | None = None

    @property
    def copied(self) -> bool:
        """Whether the bytes of its file are written."""
        return self.data is None and not self.zeroed and self.dtype == self.stored and self.cut is None

    def rounded(self, dtype: torch.dtype) -> Tensor:
        """Return this written in another dtype."""
        return replace(self, dtype=_NAMES[dtype], size=math.prod(self.shape) * dtype.itemsize)

    def holding(self, data: Float[torch.Tensor, " *any"] | None) -> Tensor:
        """Return this with data from memory in its place, in its own dtype if that holds every number of the data's.

        A file of wider numbers than the model was measured in holds them; what is read again and rounded to the
        model's dtype is then what was measured. In a file of narrower or other numbers they would be rounded: there
        the tensor gets the dtype of the data, and the rest keeps its own.
        """
        if data is None:
            return self
        if self.dtype not in _DTYPES:
            raise ExportError("Quantized weights cannot be changed", f"{self.name} is {self.dtype}", "Use the original")
        holds = self.dtype == "F64" or (self.dtype == "F32" and data.dtype != torch.float64)
        dtype = self.dtype if holds else _NAMES[data.dtype]
        return replace(self, dtype=dtype, size=data.numel() * _DTYPES[dtype].itemsize, data=data)

    def cut_to(self, cut: Cut) -> Tensor:
        """Return some of its parts. Raises ExportError if it is quantized, changed or of another shape."""
        if self.dtype not in _DTYPES or self.data is not None or self.shape != cut.shape:
            found = f"{self.name} is {self.dtype} of {' x '.join(map(str, self.shape))}"
            raise ExportError("A part of a tensor cannot be left out", found, "Export from the 16-bit original")
        return replace(self, shape=cut.written, size=self.size // cut.parts * len(cut.kept), cut=cut)


@dataclass(frozen=True)
class Shard:
    """The tensors to be written from one source file, in the order of their bytes."""

    source: Path
    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes of tensor data."""
        return sum(tensor.size for tensor in self.tensors)

    def with_zeros(self, like: str, name: str) -> Shard:
        """Return this shard with a tensor of zeros beside each one with a name's ending, of its shape and dtype."""
        made = [
            replace(tensor, name=tensor.name.removesuffix(like) + name, zeroed=True, data=None)
            for tensor in self.tensors
            if tensor.name.endswith(like)
        ]
        return replace(self, tensors=(*self.tensors, *made))

    def with_tensors(self, named: Mapping[str, Float[torch.Tensor, " *any"]]) -> Shard:
        """Return this shard with tensors from memory behind its own."""
        made = [
            Tensor(name, _NAMES[data.dtype], tuple(data.shape), 0, data.nbytes, False, data)
            for name, data in named.items()
        ]
        return replace(self, tensors=(*self.tensors, *made))


def plan_shards(
    files: list[Path],
    place: Placement,
    take: Replacement = _leave,
    store: StoredDtype = _keep,
    cutting: Cutting = _whole,
) -> list[Shard]:
    """Decide what is written from each file; files of which nothing is left are dropped.

    Args:
        files: the source's.
        place: what becomes of a tensor.
        take: what is written in its place.
        store: the dtype that it is written in.
        cutting: which parts of it are written.

    Raises:
        ExportError: a file is not in the format, two tensors would get one name, or one that is cut is quantized.
    """
    shards, names = [], set()
    for path in files:
        header, data_start = _read_header(path)
        metadata = header.pop("__metadata__", {})
        tensors = []
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            placed = place(name)
            data = take(name, tuple(entry["shape"]), placed is not None and not placed[1])
            if placed is None:
                continue
            if placed[0] in names:
                raise ExportError("Two tensors would get one name", placed[0], "Report this model's layout")
            names.add(placed[0])
            start, stop = entry["data_offsets"]
            own, shape = entry["dtype"], tuple(entry["shape"])
            kept = Tensor(placed[0], own, shape, data_start + start, stop - start, placed[1], stored=own).holding(data)
            if cut := cutting(name):
                kept = kept.cut_to(cut)
            tensors.append(kept.rounded(store(name, _DTYPES[kept.dtype])) if own in _DTYPES else kept)
        if tensors:
            shards.append(Shard(path, tuple(tensors), metadata))
    return shards


def find_common_dtype(shards: list[Shard]) -> torch.dtype:
    """Return the dtype that most of the numbers are written in."""
    sizes: Counter[str] = Counter()
    for tensor in (tensor for shard in shards for tensor in shard.tensors if tensor.dtype in _DTYPES):
        sizes[tensor.dtype] += tensor.size
    return _DTYPES[max(sizes, key=sizes.__getitem__)]


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return a file's header and where its data starts."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size - 8:
                raise ValueError("its header is longer than the file")
            return json.loads(file.read(length)), 8 + length
    except (OSError, ValueError, struct.error) as error:
        raise ExportError("Not a safetensors file", f"{path.name} ({error})", "Copy or download it again") from None


def write_shards(shards: list[Shard], folder: Path, report: Callable[[int], None]) -> None:
    """Write shards, and an index if there are several, into a folder.

    `report` is told the bytes just copied; it may raise to stop.
    """
    weight_map: dict[str, str] = {}
    buffer = memoryview(bytearray(_BUFFER))
    for number, shard in enumerate(shards, 1):
        single = len(shards) == 1
        name = "model.safetensors" if single else f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= {tensor.name: name for tensor in shard.tensors}
        with shard.source.open("rb") as source, (folder / name).open("wb") as target:
            target.write(_make_header(shard))
            for tensor in shard.tensors:
                if tensor.copied:
                    _copy(source, target, tensor, buffer, report)
                    continue
                for chunk in _read_data(source, tensor):
                    target.write(chunk)
                    report(len(chunk))
            target.flush()
            os.fsync(target.fileno())
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(s.size for s in shards)},
            "weight_map": dict(sorted(weight_map.items())),
        }
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _make_header(shard: Shard) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **shard.metadata}}
    offset = 0
    for tensor in shard.tensors:
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.size],
        }
        offset += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _copy(
    source: BufferedReader, target: BinaryIO, tensor: Tensor, buffer: memoryview, report: Callable[[int], None]
) -> None:
    """Copy a tensor's bytes. To send them within the kernel takes longer: it hands on 64 KiB at a time."""
    source.seek(tensor.start)
    left = tensor.size
    while left:
        piece = buffer[: min(left, len(buffer))]
        if source.readinto(piece) != len(piece):
            raise _refuse_end(source, tensor)
        target.write(piece)
        left -= len(piece)
        report(len(piece))


def _read_data(source: BinaryIO, tensor: Tensor) -> Iterator[bytes | memoryview]:
    if tensor.data is not None:
        own = tensor.data.detach().cpu().to(_DTYPES[tensor.dtype]).contiguous().reshape(-1).view(torch.uint8)
        yield from (piece.numpy().data for piece in own.split(_CHUNK))
        return
    if tensor.zeroed:
        yield from (bytes(min(_CHUNK, tensor.size - start)) for start in range(0, tensor.size, _CHUNK))
        return
    source.seek(tensor.start)
    cut, itemsize = tensor.cut, _DTYPES[tensor.stored].itemsize
    stored = math.prod(cut.shape if cut else tensor.shape) * itemsize
    step = _CHUNK if cut is None else cut.numbers * itemsize * max(1, _CHUNK // (cut.numbers * itemsize))
    for start in range(0, stored, step):
        chunk = source.read(min(step, stored - start))
        if len(chunk) != min(step, stored - start):
            raise _refuse_end(source, tensor)
        yield _round(chunk if cut is None else cut.take(chunk, itemsize), tensor)


def _refuse_end(source: BinaryIO, tensor: Tensor) -> ExportError:
    return ExportError("A weights file ends early", f"{source.name}, in {tensor.name}", "Copy it again")


def _round(chunk: bytes, tensor: Tensor) -> memoryview:
    """Return bytes of a file in the dtype that they are written in, each number rounded as torch rounds it."""
    numbers = torch.frombuffer(bytearray(chunk), dtype=_DTYPES[tensor.stored])
    return numbers.to(_DTYPES[tensor.dtype]).view(torch.uint8).numpy().data
