"""ModelSpec -> what its weights will take beside what is free, before any of them is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from explorer.checkpoints import DEFAULT_MODEL, ModelSpec, count_stored, find_packaged
from explorer.model.config_only import count_parameters_of_config
from explorer.model.memory import free_bytes
from explorer.model.placement import Placement, pick_dtype, place
from explorer.paths import expand_user
from explorer.reading import exists
from explorer.storage import Store

#: Bytes of a weight of a layer, with its scales: LLM.int8, and NF4 whose scales are in 8 bits themselves.
_QUANTIZED = {"int8": 1.0, "nf4": (4 + 8 / 64 + 32 / (64 * 256)) / 8}


@dataclass(frozen=True)
class MemoryOutlook:
    """What weights will take, and what there is.

    Args:
        parameters: of the whole model.
        bytes: of the weights, in the precision and quantization that were asked for.
        nf4_bytes: of them in 4 bits.
        free: bytes of the device, or of all together where weights are spread.
        device: where they go.
        precision: what they are in.
        architecture: the model's class, where a config says it.
        n_layers: likewise.
    """

    parameters: int
    bytes: float
    nf4_bytes: float
    free: int
    device: str
    precision: str
    architecture: str = ""
    n_layers: int = 0


def estimate_memory(spec: ModelSpec, store: Store, cache: Path, held: int = 0) -> MemoryOutlook:
    """Estimate what a model's weights take: the parameters of its config, or of a GGUF file's header, by their bytes.

    Of a repository on the hub the config alone is fetched.

    Args:
        held: bytes that a model which goes first will free.

    Raises:
        ModelError, UnsupportedModel, DeviceError: see `count_parameters_of_config` and `place`.
    """
    placement = place(spec.device)
    architecture, n_layers, own = "", 0, 4
    if (file := _find_gguf(spec.model)) is not None:
        total, inside = count_stored(file)
    else:
        architecture, costs = count_parameters_of_config(spec.model, "auto", store, cache, spec.trust_remote_code)
        total, inside, own = costs.total, sum(each[2] for each in costs.layers), costs.itemsize
        n_layers = len(costs.layers)
    if spec.dtype == "auto" and placement.device.type != "cpu":
        itemsize, precision = own, "the precision of its files"
    else:
        dtype = pick_dtype(spec.dtype, placement.device, None)
        itemsize, precision = dtype.itemsize, str(dtype).removeprefix("torch.")
    if spec.quantize != "none":
        precision = f"{spec.quantize}, the rest in {precision}"
    return MemoryOutlook(
        parameters=total,
        bytes=_weigh(total, inside, itemsize, spec.quantize),
        nf4_bytes=_weigh(total, inside, itemsize, "nf4"),
        free=_find_free(placement) + held,
        device=spec.device if placement.spread else str(placement.device),
        precision=precision,
        architecture=architecture,
        n_layers=n_layers,
    )


def _find_gguf(name: str) -> Path | None:
    path = expand_user(name)
    if name == DEFAULT_MODEL and not exists(path):
        return find_packaged()
    return path if path.suffix.lower() == ".gguf" else None


def _weigh(total: int, inside: int, itemsize: int, quantize: str) -> float:
    """Bytes of weights; quantization is of the layers alone."""
    return inside * _QUANTIZED.get(quantize, itemsize) + (total - inside) * itemsize


def _find_free(placement: Placement) -> int:
    if not placement.spread:
        return free_bytes(placement.device)
    devices = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return sum(map(free_bytes, [*devices, torch.device("cpu")]))
