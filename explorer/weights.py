"""Files of a checkpoint -> a transformers model, whole, where and as it was asked for."""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch

from explorer.anatomy import count_layers
from explorer.devices import QUANTIZATIONS, Placement
from explorer.errors import DeviceError, ModelError, first_line


def read_weights(
    folder: Path,
    placement: Placement,
    dtype: torch.dtype,
    quantize: str = "none",
    trust_remote_code: bool = False,
    scratch: Path | None = None,
) -> Any:
    """Load a folder of safetensors as a causal language model, ready for inference.

    Weights that go to the disk and are not in memory as they are in their files are written in `scratch`, for as long
    as the model lives.

    Raises:
        ModelError: the files are damaged or incomplete, no causal language model, or cannot be quantized.
        DeviceError: out of memory.
    """
    from transformers import AutoModelForCausalLM

    model: Any
    report: dict[str, Any]
    offload = tempfile.mkdtemp(prefix="offload-", dir=scratch) if placement.spread else None
    try:
        model, report = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
            folder,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            offload_folder=offload,
            **placement.options,
            **_quantization(quantize, dtype),
        )
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"The model does not fit on {placement.device}", folder.name, "Use --dtype bfloat16, --quantize or --device"
        ) from None
    except Exception as error:  # each architecture checks its config in a way of its own
        if type(error).__module__.startswith("safetensors"):
            raise ModelError("The weights are damaged", first_line(error), "Copy or download them again") from error
        if misfit := "ignore_mismatched_sizes" in str(error) and _find_misfit(folder, trust_remote_code):
            raise ModelError("Weights do not fit the config", misfit, "Correct config.json") from error
        raise ModelError("Cannot load the model", first_line(error), "Check its files, or try another model") from error
    if offload is not None:
        weakref.finalize(model, shutil.rmtree, offload, ignore_errors=True)
    _check_whole(report, count_layers(model.config))
    _keep_packed_as_stored(model)
    return model.eval().requires_grad_(False)


def _quantization(quantize: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the option with bitsandbytes' config: LLM.int8(), or QLoRA's NF4 with double quantization.

    With `none` there is none: a checkpoint that is quantized in its files has a config of its own.
    """
    from transformers import BitsAndBytesConfig

    if quantize == "none":
        return {}
    if quantize == "int8":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    if quantize == "nf4":
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        return {"quantization_config": config}
    raise ModelError("Unknown quantization", repr(quantize), "Use " + ", ".join(QUANTIZATIONS))


def _keep_packed_as_stored(model: Any) -> None:
    """On CPUs with AVX512-BF16 bitsandbytes would repack 4-bit weights in place, and read them wrongly afterwards."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def find_input_device(model: Any) -> torch.device:
    """Return where token ids go; the embedding itself may be offloaded."""
    embedding = model.get_input_embeddings()
    device = getattr(getattr(embedding, "_hf_hook", None), "execution_device", None)
    return embedding.weight.device if device is None else torch.device(device)


def _find_misfit(folder: Path, trust_remote_code: bool) -> str:
    """Name the first tensor whose shape is not what the config says; transformers writes that to its log alone."""
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    declared = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in sorted(file.keys()):
                stored = file.get_slice(name).get_shape()
                if stored != declared.get(name, stored):
                    return f"{name} is {stored} in the file, {declared[name]} by config.json"
    return ""


def _check_whole(report: dict[str, Any], n_layers: int) -> None:
    """Refuse a checkpoint that leaves weights at random, or that has layers which the config does not load."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            "The checkpoint lacks weights",
            f"{len(missing)} tensors, such as {missing[0]}",
            "Copy it again, or check config.json",
        )
    layers = [(int(m[1]), key) for key in report["unexpected_keys"] if (m := re.search(r"\.(\d+)\.", key))]
    beyond = [key for layer, key in sorted(layers) if layer >= n_layers]
    if beyond:
        raise ModelError(
            "The checkpoint has more layers than its config",
            f"{beyond[0]} where the config has {n_layers}",
            "Correct config.json",
        )
    if mismatched := report.get("mismatched_keys"):
        raise ModelError("Weights do not fit the config", str(sorted(map(str, mismatched))[0]), "Correct config.json")
