"""Names of devices and dtypes -> where a model goes, and what its numbers are in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import torch

from explorer.errors import DeviceError, ModelError
from explorer.processes import find_local

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
QUANTIZATIONS = ("none", "int8", "nf4")

_SIZE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?(GiB|MiB|GB|MB)")
_NUMBER = re.compile(r"[0-9]{1,4}")
_DEVICES = "Use auto, cpu, cuda, cuda:0, map, or map:0=20GiB,cpu=40GiB"


@dataclass(frozen=True)
class Placement:
    """Where a model's weights go.

    Args:
        device: the one device, or with `spread` the first of those that weights are spread over.
        spread: over all GPUs, then the machine's memory, then the disk, as accelerate's device_map="auto" does.
        limits: the most that each device takes, all it has where it is not named.
    """

    device: torch.device
    spread: bool = False
    limits: dict[int | str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of from_pretrained that say so."""
        if self.spread:
            return {"device_map": "auto", "max_memory": self.limits or None}
        return {"device_map": {"": self.device} if self.device.type != "cpu" else None}


def place(name: str) -> Placement:
    """Turn `auto`, `cpu`, `cuda`, `cuda:i`, `map` or `map:LIMITS` into a placement.

    Of several processes on one machine, `auto` gives each a GPU of its own.

    Raises:
        DeviceError: no such device.
    """
    local = find_local()
    gpu = torch.device("cuda") if local is None else torch.device("cuda", local)
    best = gpu if torch.cuda.is_available() else torch.device("cpu")
    kind, _, limits = name.partition(":")
    if name == "auto":
        return Placement(best)
    if name == "cpu":
        return Placement(torch.device("cpu"))
    if kind == "map":
        return Placement(best, True, _read_limits(limits))
    match = re.fullmatch(r"cuda(?::([0-9]{1,4}))?", name)
    if match is None:
        raise DeviceError("Unknown device", repr(name), _DEVICES)
    count = torch.cuda.device_count()
    if int(match[1] or 0) >= count:
        raise DeviceError(f"No device {name}", f"{count} CUDA devices", "Use --device auto or cpu")
    return Placement(torch.device(name))


def _read_limits(text: str) -> dict[int | str, str]:
    limits: dict[int | str, str] = {}
    for entry in filter(None, text.split(",")):
        device, _, size = entry.partition("=")
        if not (_NUMBER.fullmatch(device) or device == "cpu") or not _SIZE.fullmatch(size):
            raise DeviceError("Cannot read the device map", repr(entry), _DEVICES)
        limits[device if device == "cpu" else int(device)] = size
    return limits


def pick_dtype(name: str, device: torch.device, checkpoint_dtype: str | None) -> torch.dtype:
    """Turn `auto` or a dtype's name into a dtype.

    `auto` is the checkpoint's on a GPU; on a CPU bfloat16 where it multiplies bfloat16 natively, else float32.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise ModelError("Unknown dtype", repr(name), "Use auto, float32, bfloat16 or float16")
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if able.get("amx_bf16") or able.get("avx512_bf16") else torch.float32
    return DTYPES.get(checkpoint_dtype or "", torch.bfloat16)
