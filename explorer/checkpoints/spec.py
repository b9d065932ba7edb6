"""What to load and how, by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelSpec:
    """What to load and how.

    Args:
        model: hub id, folder or GGUF file.
        dtype: `auto`, float32, bfloat16 or float16; what is not quantized is in it, and arithmetic.
        device: `auto`, `cpu`, `cuda`, `cuda:i`, or `map`: spread over all devices, see `devices`.
        trust_remote_code: run code that the model brings.
        quantize: `none`, or weights in `int8` or `nf4` by bitsandbytes.
        stream: whether layers are read from the files each time they are run; one at a time is in memory.
    """

    model: str
    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    quantize: str = "none"
    stream: bool = False
