"""Files of a checkpoint -> a transformers model, whole, where and as it was asked for."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch

from explorer.checkpoints import Checkpoint
from explorer.errors import Cancelled, DeviceError, ExplorerError, ModelError, first_line
from explorer.extras import require
from explorer.model.auto_class import find_auto_class
from explorer.model.placement import QUANTIZATIONS, Placement
from explorer.model.streamed_weights import build_streamed
from explorer.model.unused_tensors import Leftovers, sort_leftovers
from explorer.paths import OFFLOADED
from explorer.reading import Unreadable, read_text
from explorer.storage import make_partial, remove_leftovers

#: transformers' own implementations of attention and experts, which a config may ask for.
_OWN = (None, "eager", "sdpa", "grouped_mm", "batched_mm")

#: Adapter files beside the weights are put on top of them by transformers where peft is installed; looked for below a
#: path that is a file, they are not found.
_NO_ADAPTER = {"subfolder": "config.json"}


def read_weights(
    folder: Path,
    placement: Placement,
    dtype: torch.dtype,
    quantize: str = "none",
    trust_remote_code: bool = False,
    scratch: Path | None = None,
    stream: bool = False,
) -> Any:
    """Load a folder of safetensors as a causal language model, ready for inference; see `read_all_weights`."""
    checkpoint = Checkpoint(str(folder), folder)
    return read_all_weights(checkpoint, placement, dtype, quantize, trust_remote_code, scratch, stream)[0]


def read_all_weights(
    checkpoint: Checkpoint,
    placement: Placement,
    dtype: torch.dtype,
    quantize: str = "none",
    trust_remote_code: bool = False,
    scratch: Path | None = None,
    stream: bool = False,
) -> tuple[Any, Leftovers]:
    """Load a checkpoint as a causal language model, ready for inference; return also what it did not use of the files.

    With `stream` its layers are read from the files each time they are run. Weights that go to the disk and are not
    in memory as they are in their files are written in `scratch`, for as long as the model lives.

    Raises:
        ModelError: the files are damaged or incomplete, no causal language model, or cannot be quantized; or they hold
            weights of the decoder that the config does not declare.
        DeviceError: out of memory.
    """
    with ExitStack() as stack:
        offload = _make_offload(stack, scratch) if placement.spread else None
        model, leftovers = _load(checkpoint, placement, dtype, quantize, trust_remote_code, offload, stream)
        weakref.finalize(model, stack.pop_all().close)
    return model, leftovers


def _make_offload(stack: ExitStack, scratch: Path | None) -> Path:
    """Make a folder for weights that go to the disk, which goes with the stack; what killed processes left goes now."""
    parent = (Path(tempfile.gettempdir()) if scratch is None else scratch) / OFFLOADED
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(parent)
        folder, lock = make_partial(parent, folder=True)
    except OSError as error:
        raise ModelError("Cannot write weights to the disk", f"{parent} ({error.strerror})", "Use --cache") from None
    stack.callback(_remove_empty, parent)
    stack.callback(os.close, lock)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _load(
    checkpoint: Checkpoint,
    placement: Placement,
    dtype: torch.dtype,
    quantize: str,
    trust_remote_code: bool,
    offload: Path | None,
    stream: bool,
) -> tuple[Any, Leftovers]:
    model: Any
    report: dict[str, Any]
    folder = checkpoint.folder
    try:
        config = _read_config(folder, trust_remote_code)
        if stream:
            model, report = build_streamed(config, checkpoint.weights, placement.device, dtype, trust_remote_code)
        else:
            model, report = find_auto_class(config).from_pretrained(
                folder,
                config=config,
                generation_config=_plain_generation(folder, config),
                dtype=dtype,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # told below, with the shapes
                adapter_kwargs=_NO_ADAPTER,
                offload_folder=offload,
                **placement.options,
                **_quantization(quantize, dtype),
            )
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"The model does not fit on {placement.device}", folder.name, "Use --dtype bfloat16, --quantize or --device"
        ) from None
    except (ExplorerError, Cancelled):
        raise
    except Exception as error:  # each architecture checks its config in a way of its own
        if type(error).__module__.startswith("safetensors"):
            raise ModelError("The weights are damaged", first_line(error), "Copy or download them again") from error
        raise ModelError("Cannot load the model", first_line(error), "Check its files, or try another model") from error
    _check_whole(report)
    leftovers = sort_leftovers(model, report["unexpected_keys"], checkpoint.weights)
    _keep_packed_as_stored(model)
    return model.eval().requires_grad_(False), leftovers


def _read_config(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    return without_kernels(config)


def without_kernels(config: Any) -> Any:
    """Leave the choice of attention to this program where a config names another than transformers' own.

    A config may name code on the hub, which transformers would fetch and run; nor may it replace modules by fused ones.
    """
    configs = [config, *(getattr(config, name, None) for name in getattr(config, "sub_configs", None) or ())]
    for field in ("_attn_implementation", "_experts_implementation"):
        if any(getattr(each, field, None) not in _OWN for each in configs):
            setattr(config, field, None)
    if getattr(config, "fusion_config", None) is not None:
        config.fusion_config = None
    return config


def _quantization(quantize: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the option with bitsandbytes' config: LLM.int8(), or QLoRA's NF4 with double quantization.

    With `none` there is none: a checkpoint that is quantized in its files has a config of its own.
    """
    from transformers import BitsAndBytesConfig

    if quantize == "none":
        return {}
    if quantize in QUANTIZATIONS:
        require("bitsandbytes")
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


def _plain_generation(folder: Path, config: Any) -> Any:
    """Return a generation config that has of a checkpoint's only the tokens that end a text.

    Whatever else it says (caches, beams, penalties, tokens that are forced or forbidden) `generate` would obey. The
    file may be missing or no such config: then the ends are those of the model's config.
    """
    from transformers import GenerationConfig

    try:
        written = json.loads(read_text(folder / "generation_config.json"))
    except (Unreadable, ValueError, RecursionError):
        written = None
    usable = _usable_ends(written.get("eos_token_id")) if isinstance(written, dict) else []
    decoder = config.get_text_config(decoder=True)
    return GenerationConfig(eos_token_id=usable or _usable_ends(getattr(decoder, "eos_token_id", None)) or None)


def _usable_ends(named: Any) -> list[int]:
    entries = named if isinstance(named, list | tuple) else [named]
    return [entry for entry in entries if isinstance(entry, int) and not isinstance(entry, bool) and entry >= 0]


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


def _check_whole(report: dict[str, Any]) -> None:
    """Refuse a checkpoint that leaves weights at random, or whose weights have other shapes than the config says."""
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            "The checkpoint lacks weights",
            f"{len(missing)} tensors, such as {missing[0]}",
            "Copy it again, or check config.json",
        )
    if mismatched := sorted(report.get("mismatched_keys") or ()):
        name, stored, declared = mismatched[0]
        more = f", and {len(mismatched) - 1} more" if len(mismatched) > 1 else ""
        raise ModelError(
            "Weights do not fit the config",
            f"{name} is {tuple(stored)} in the file and {tuple(declared)} by config.json{more}",
            "Correct config.json",
        )
