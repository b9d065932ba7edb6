"""Named parts -> one key of what is stored, with its edition. What decides a number: `LoadedModel.numerics_key`."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Raised when the definition of what is stored changes, so that it is computed anew.
EDITIONS = {
    "numerics": 2,
    "redundancy": 4,
    "taylor": 2,
    "replaceability": 2,
    "attention": 2,
    "entropy": 1,
    "last-token-cosine": 1,
    "answers": 1,
    "written": 1,
    "plan": 4,
    "delta": 2,
    "training": 2,
    "own text": 2,
    "teacher": 1,
    "config": 2,
    "architecture": 1,
}


def make_key(kind: str, **parts: str) -> str:
    """Digest named parts, and the edition of what they are a key of, into one key."""
    text = json.dumps({"kind": kind, "edition": EDITIONS[kind], **parts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def describe_libraries() -> str:
    """The versions of the libraries that compute, major and minor: `torch 2.13, transformers 5.23`."""
    names = ("torch", "transformers")
    return ", ".join(f"{name} {'.'.join(version(name).split('.')[:2])}" for name in names)


def describe_processor(device: torch.device) -> str:
    """What computes: a GPU by its name, or a CPU with what decides its kernels."""
    import torch

    if device.type != "cpu":
        return torch.cuda.get_device_name(device) if torch.cuda.is_available() else device.type
    able = torch.cpu.get_capabilities()
    extra = [name for name in ("avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16") if able.get(name)]
    return " ".join(["cpu", torch.backends.cpu.get_cpu_capability(), *extra])
