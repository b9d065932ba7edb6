"""A GGUF file, whole or in parts -> its keys and where its tensors are. Reads headers only."""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from gguf.constants import GGML_QUANT_SIZES
from jaxtyping import Float32

from explorer.errors import ModelError

#: What a tensor holds, whatever its type.
Numbers = Float32[np.ndarray, " ..."]

#: How the parts of a split file are named.
_PART = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})(?P<suffix>\.gguf)", re.IGNORECASE)

#: Numbers of the metadata: their type -> how they are packed.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LENGTH = struct.Struct("<Q")  # of a string
_DEPTH = 4  # of arrays in arrays


def refuse(path: Path, found: str, remedy: str = "Use another file of the model, or its safetensors") -> NoReturn:
    """Raise the ModelError that a file is not read."""
    raise ModelError("Cannot read the GGUF file", f"{path.name}: {found}", remedy)


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its shape (outermost dimension first), type, and its bytes from `offset` on."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    path: Path
    offset: int
    size: int

    def read(self) -> Numbers:
        """Read its numbers."""
        data = np.memmap(self.path, np.uint8, "r", self.offset, (self.size,)) if self.size else np.zeros(0, np.uint8)
        block, width = GGML_QUANT_SIZES[self.type]
        rows = np.asarray(data).reshape(*self.shape[:-1], self.shape[-1] // block * width)
        return np.array(dequantize(rows, self.type), np.float32).reshape(self.shape)


@dataclass(frozen=True)
class GgufFile:
    """Keys and tensors of all parts.

    Args:
        path: the first part, for messages.
        paths: all parts, in order.
    """

    path: Path
    paths: tuple[Path, ...]
    fields: dict[str, Any]
    tensors: dict[str, Stored]

    @property
    def architecture(self) -> str:
        """What the keys of the model begin with."""
        return self.fields["general.architecture"]


def find_parts(path: Path) -> list[Path]:
    """Return the files that a model is in: `path` alone, or all parts of the split file that it is one of.

    Raises ModelError: a part is missing, or the name of one does not tell the others'.
    """
    fields, _ = _read_header(path)
    count = fields.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return [path]
    number = fields.get("split.no", 0)
    match = _PART.fullmatch(path.name)
    if match is None or int(match["parts"]) != count or count > 99999:
        refuse(path, f"it is part {number} + 1 of {count}, but is not named so", "Name the parts X-00001-of-00003.gguf")
    width = f"-of-{count:05}{match['suffix']}"
    parts = [path.with_name(f"{match['stem']}-{part:05}{width}") for part in range(1, count + 1)]
    if missing := [part for part in parts if not part.is_file()]:
        refuse(path, f"{missing[0].name} is not beside it", "Put all parts into one folder")
    return parts


def read_file(path: Path) -> GgufFile:
    """Read the headers of a file, or of all parts of a split one.

    Raises ModelError: damaged, a part is missing, or the parts contradict each other.
    """
    paths = find_parts(path)
    fields: dict[str, Any] = {}
    tensors: dict[str, Stored] = {}
    for number, part in enumerate(paths):
        found, stored = _read_header(part)
        if len(paths) > 1 and (found.pop("split.no", None), found.get("split.count")) != (number, len(paths)):
            refuse(part, f"by its keys it is not part {number + 1} of {len(paths)}")
        if differing := [key for key in found.keys() & fields.keys() if found[key] != fields[key]]:
            refuse(part, f"{min(differing)} is not what it is in {paths[0].name}")
        if number and (more := sorted(found.keys() - fields.keys())):
            refuse(part, f"{more[0]} is not in {paths[0].name}")
        fields |= found
        for tensor in stored:
            if tensor.name in tensors:
                refuse(part, f"{tensor.name} is there twice")
            tensors[tensor.name] = tensor
    architecture = fields.get("general.architecture")
    if not isinstance(architecture, str) or not architecture:
        refuse(path, "it does not say its architecture")
    total = fields.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        refuse(path, f"its parts have {len(tensors)} tensors of {total}")
    return GgufFile(paths[0], tuple(paths), fields, tensors)


def count_stored(path: Path) -> tuple[int, int]:
    """Count the numbers in a model's file: all, and those of its layers. Raises ModelError: see `read_file`."""
    tensors = read_file(path).tensors.values()
    sizes = [(math.prod(tensor.shape), tensor.name.startswith("blk.")) for tensor in tensors]
    return sum(size for size, _ in sizes), sum(size for size, inside in sizes if inside)


def _read_header(path: Path) -> tuple[dict[str, Any], list[Stored]]:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b"")
            return _Header(path, data).read()
    except OSError as error:
        refuse(path, str(error.strerror), "Copy it again")
    except (struct.error, IndexError, ValueError, OverflowError, UnicodeDecodeError):
        refuse(path, "it is damaged, or not a GGUF file", "Copy it again")


class _Header:
    """Reads a file from its start, never more than it holds."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.data, self.at = path, data, 0

    def read(self) -> tuple[dict[str, Any], list[Stored]]:
        magic, version, tensors, keys = self._unpack("4sIQQ")
        if magic != b"GGUF":
            raise ValueError
        if version not in (2, 3):
            refuse(self.path, f"its version is {version}", "Convert the model again with a current llama.cpp")
        fields: dict[str, Any] = {}
        for _ in range(self._count(keys, 13)):
            key = self._string()
            if key in fields:
                refuse(self.path, f"the key {key} is there twice")
            (kind,) = self._unpack("I")
            fields[key] = self._value(kind)
        entries = [self._entry() for _ in range(self._count(tensors, 24))]
        alignment = fields.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            refuse(self.path, f"general.alignment is {alignment}")
        start = -(-self.at // alignment) * alignment
        return fields, [self._place(start, *entry) for entry in entries]

    def _unpack(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return found

    def _count(self, count: int, smallest: int) -> int:
        """Return a count of things of at least so many bytes, if the rest of the file can hold them."""
        if count * smallest > len(self.data) - self.at:
            raise ValueError
        return count

    def _string(self) -> str:
        (length,) = _LENGTH.unpack_from(self.data, self.at)
        self.at += _LENGTH.size
        start, self.at = self.at, self.at + self._count(length, 1)
        return bytes(self.data[start : self.at]).decode("utf-8")

    def _value(self, kind: int, depth: int = 0) -> Any:
        if kind in _NUMBERS:
            return self._unpack(_NUMBERS[kind])[0]
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY or depth > _DEPTH:
            raise ValueError
        inner, count = self._unpack("IQ")
        if inner in _NUMBERS:
            form = _NUMBERS[inner]
            return list(self._unpack(f"{self._count(count, struct.calcsize(form))}{form}"))
        return [self._value(inner, depth + 1) for _ in range(self._count(count, 8))]

    def _entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        (n,) = self._unpack("I")
        if not 1 <= n <= 4:
            raise ValueError
        shape = self._unpack(f"{n}Q")[::-1]
        kind, offset = self._unpack("IQ")
        return name, shape, kind, offset

    def _place(self, start: int, name: str, shape: Sequence[int], kind: int, offset: int) -> Stored:
        try:
            type_ = GGMLQuantizationType(kind)
        except ValueError:
            refuse(self.path, f"{name} is of the unknown type {kind}")
        block, width = GGML_QUANT_SIZES[type_]
        if shape[-1] % block:
            refuse(self.path, f"{name} has rows of {shape[-1]}, which blocks of {block} do not divide")
        size = math.prod(shape) // block * width
        if start + offset + size > len(self.data):
            refuse(self.path, f"the file ends within {name}", "Copy it again: it is not whole")
        return Stored(name, tuple(shape), type_, self.path, start + offset, size)
