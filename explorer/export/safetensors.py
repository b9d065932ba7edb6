"""Safetensors files in, safetensors files out: bytes are copied, never decoded.

The format: eight bytes of header length, a JSON header (name -> dtype, shape, data_offsets), then the data.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from explorer.errors import ExportError

_CHUNK = 1 << 24  # bytes copied at a time; memory does not grow with a tensor

#: What becomes of a tensor: its new name and whether it is zeroed; None drops it.
Placement = Callable[[str], "tuple[str, bool] | None"]


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file, where it is and what becomes of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    zeroed: bool


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
            replace(tensor, name=tensor.name.removesuffix(like) + name, zeroed=True)
            for tensor in self.tensors
            if tensor.name.endswith(like)
        ]
        return replace(self, tensors=(*self.tensors, *made))


def plan_shards(files: list[Path], place: Placement) -> list[Shard]:
    """Decide what is written from each file; files of which nothing is left are dropped.

    Raises:
        ExportError: a file is not in the format, or two tensors would get one name.
    """
    shards, names = [], set()
    for path in files:
        header, data_start = _read_header(path)
        metadata = header.pop("__metadata__", {})
        tensors = []
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            placed = place(name)
            if placed is None:
                continue
            if placed[0] in names:
                raise ExportError("Two tensors would get one name", placed[0], "Report this model's layout")
            names.add(placed[0])
            start, stop = entry["data_offsets"]
            tensors.append(
                Tensor(placed[0], entry["dtype"], tuple(entry["shape"]), data_start + start, stop - start, placed[1])
            )
        if tensors:
            shards.append(Shard(path, tuple(tensors), metadata))
    return shards


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
    for number, shard in enumerate(shards, 1):
        single = len(shards) == 1
        name = "model.safetensors" if single else f"model-{number:05}-of-{len(shards):05}.safetensors"
        weight_map |= {tensor.name: name for tensor in shard.tensors}
        with shard.source.open("rb") as source, (folder / name).open("wb") as target:
            target.write(_make_header(shard))
            for tensor in shard.tensors:
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


def _read_data(source: BinaryIO, tensor: Tensor) -> Iterator[bytes]:
    source.seek(tensor.start)
    for start in range(0, tensor.size, _CHUNK):
        size = min(_CHUNK, tensor.size - start)
        chunk = bytes(size) if tensor.zeroed else source.read(size)
        if len(chunk) != size:
            raise ExportError("A weights file ends early", f"{source.name}, in {tensor.name}", "Copy it again")
        yield chunk
