"""ModelSpec -> LoadedModel: load a checkpoint, and refuse what could not be measured correctly."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from explorer.anatomy import Family, count_layers, find_anatomy
from explorer.checkpoints import Checkpoint, find_checkpoint
from explorer.corpus import tokenize
from explorer.errors import DeviceError, ModelError, first_line
from explorer.hooks import Hooks
from explorer.masks import PARTS, Site
from explorer.records import Corpus, ModelSpec, Progress, unreported
from explorer.selfcheck import check_hooks
from explorer.store import Store, make_key

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class LoadedModel:
    """A model in memory with all that the rest of the flow needs; the only mutable noun.

    `parallel` tells that attention and MLP of a layer read the same residual stream; `digest` that of the files.
    """

    spec: ModelSpec
    checkpoint: Checkpoint
    model: Any
    tokenizer: Any
    family: Family
    hooks: Hooks
    parallel: bool
    digest: str

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.hooks.layers)

    @property
    def dtype(self) -> str:
        """Name of the dtype that the weights are in."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def device(self) -> torch.device:
        """The device that the model's input goes to."""
        return self.model.device

    @property
    def config(self) -> Any:
        """The decoder's transformers config."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def positions(self) -> int | None:
        """The longest window that the model takes, where its config says so."""
        return getattr(self.config, "max_position_embeddings", None)

    @cached_property
    def sites(self) -> list[Site]:
        """All sites, layer by layer, attention first."""
        return [Site(layer, part) for layer in range(self.n_layers) for part in PARTS]

    @property
    def context(self) -> str:
        """Key of everything but text and mask that decides a stored number."""
        return make_key(model=self.digest, dtype=self.dtype, device=self.device.type, quantize="none")

    def tokenize(self, text: str, tokens: int, window: int, bos: str = "auto") -> Corpus:
        """Cut a text into this model's windows; see `corpus.tokenize`."""
        return tokenize(
            text,
            self.tokenizer,
            tokens=tokens,
            window=window,
            bos=bos,
            positions=self.positions,
            vocabulary=self.config.vocab_size,
        )

    def unload(self) -> None:
        """Let the weights go."""
        self.hooks.remove()
        self.model = self.hooks = None  # type: ignore[assignment]
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def quieten_libraries() -> None:
    """Keep transformers and its kin from writing to stderr; what matters is reported as progress or an error."""
    from transformers.utils import logging as transformers_logging

    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("huggingface_hub", "datasets", "httpx"):
        logging.getLogger(name).setLevel(logging.ERROR)


def load(spec: ModelSpec, store: Store, cache: Path, progress: Progress = unreported) -> LoadedModel:
    """Load a model, wrap its sites, and check that re-running its layers gives its own logits.

    Raises:
        ModelError: no such model, pickled or damaged weights, not a causal language model.
        UnsupportedModel: the self-check failed.
        DeviceError: no such device, or out of memory.
    """
    device = pick_device(spec.device)
    checkpoint = find_checkpoint(spec.model, store, cache, trust_remote_code=spec.trust_remote_code, progress=progress)
    progress(0, 3, "Reading the weights")
    model = _load_weights(checkpoint, spec, device)
    progress(1, 3, "Reading the tokenizer")
    tokenizer = _load_tokenizer(checkpoint, spec.trust_remote_code)
    progress(2, 3, "Checking the model layer by layer")
    family = find_anatomy(model)
    hooks = Hooks(model, family)
    try:
        parallel = check_hooks(hooks)
    except BaseException:
        hooks.remove()
        raise
    loaded = LoadedModel(spec, checkpoint, model, tokenizer, family, hooks, parallel, checkpoint.digest(store))
    progress(3, 3, "Ready")
    return loaded


def pick_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:i` into a device. Raises DeviceError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = f"{torch.cuda.device_count()} CUDA devices"
    if name == "cpu":
        return torch.device("cpu")
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match is None:
        raise DeviceError("Unknown device", repr(name), "Use auto, cpu, cuda or cuda:0")
    if int(match[1] or 0) >= torch.cuda.device_count():
        raise DeviceError(f"No device {name}", found, "Use --device auto or cpu")
    return torch.device(name)


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


def _load_tokenizer(checkpoint: Checkpoint, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            checkpoint.folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except Exception as error:  # each tokenizer class fails in its own way
        raise ModelError(
            "Cannot load the tokenizer", first_line(error), "Add the tokenizer's files to the folder"
        ) from error


def _load_weights(checkpoint: Checkpoint, spec: ModelSpec, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    model: Any
    report: dict[str, Any]
    config = checkpoint.config
    _check_causal(config, spec)
    dtype = pick_dtype(spec.dtype, device, config.get("dtype") or config.get("torch_dtype"))
    try:
        model, report = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
            checkpoint.folder,
            dtype=dtype,
            device_map={"": device} if device.type != "cpu" else None,
            trust_remote_code=spec.trust_remote_code,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except torch.OutOfMemoryError:
        raise DeviceError(
            f"The model does not fit on {device}", checkpoint.name, "Use --dtype bfloat16 or --device cpu"
        ) from None
    except (ValueError, OSError, RuntimeError, KeyError, TypeError, ImportError) as error:
        raise ModelError("Cannot load the model", first_line(error), "Check its files, or try another model") from error
    except Exception as error:
        if type(error).__module__.startswith("safetensors"):
            raise ModelError("The weights are damaged", first_line(error), "Copy or download them again") from error
        raise
    _check_whole(report, count_layers(model.config))
    return model.eval().requires_grad_(False)


def _check_causal(config: dict[str, Any], spec: ModelSpec) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    architectures, model_type = config.get("architectures") or [None], config.get("model_type", "")
    if not isinstance(architectures, list) or not isinstance(model_type, str):
        raise ModelError("Cannot read config.json", "architectures is no list, or model_type no text", "Copy it again")
    declared = architectures[0]
    if "AutoModelForCausalLM" in (config.get("auto_map") or {}):
        if spec.trust_remote_code:
            return
        if model_type not in CAUSAL:
            raise ModelError("The model brings its own code", str(declared), "Add --trust-remote-code if you trust it")
    known = CAUSAL.get(model_type)
    names = {known} if isinstance(known, str) else set(known or ())
    if not names:
        raise ModelError(
            "Not a causal language model", f"model type {model_type!r}, {declared}", "Use a decoder-only model"
        )
    if declared is not None and declared not in names:
        raise ModelError("Not a causal language model", f"the checkpoint is a {declared}", "Use a decoder-only model")


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
