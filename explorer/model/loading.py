"""ModelSpec -> LoadedModel: load a checkpoint, and refuse what could not be measured correctly."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from explorer.checkpoints import Checkpoint, ModelSpec, resolve_checkpoint
from explorer.errors import DeviceError, ModelError
from explorer.guarding import guarded
from explorer.masks import NONE, PARTS, Mask, Site
from explorer.model.architecture import Architecture
from explorer.model.auto_class import check_declared
from explorer.model.batch_shape import BatchShape, count_bytes_per_token
from explorer.model.found_architectures import wrap_as_found
from explorer.model.freed_memory import keep_freed_memory
from explorer.model.memory import free_bytes
from explorer.model.pace import Pace
from explorer.model.parameter_counts import routes_tokens
from explorer.model.placement import DTYPES, pick_dtype, place
from explorer.model.weights import read_all_weights
from explorer.model.wrappers import ModelWrappers
from explorer.progress import Progress, unreported
from explorer.storage import Store, describe_libraries, describe_processor, make_key
from explorer.text import Corpus, tokenize, write_mixture


@dataclass
class LoadedModel:
    """A model in memory with all that the rest of the flow needs; the only mutable noun.

    `parallel` tells that attention and MLP of a layer read the same residual stream; `digest` that of the files;
    `notices` what a user should know of them, a line each; `unused` the tensors in them that the model does not use;
    `executor` others who run the same model, `evaluation.Executor`; `pace` what work with it took here.
    """

    spec: ModelSpec
    checkpoint: Checkpoint
    model: Any
    tokenizer: Any
    architecture: Architecture
    wrappers: ModelWrappers
    parallel: bool
    digest: str
    batch_shape: BatchShape
    notices: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    executor: Any = None
    pace: Pace = field(default_factory=Pace)

    @property
    def n_layers(self) -> int:
        """Number of decoder layers."""
        return len(self.wrappers.layers)

    @property
    def dtype(self) -> str:
        """Name of the dtype that the weights are in."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def precision(self) -> str:
        """What the weights are in, in words; with quantized ones, what arithmetic is in too."""
        return self.dtype if self.spec.quantize == "none" else f"{self.spec.quantize} ({self.dtype})"

    @property
    def device(self) -> torch.device:
        """The device that the model's input goes to."""
        return self.wrappers.device

    @property
    def config(self) -> Any:
        """The decoder's transformers config."""
        return self.model.config.get_text_config(decoder=True)

    @property
    def positions(self) -> int | None:
        """The longest window that the model takes, where its config says so."""
        return getattr(self.config, "max_position_embeddings", None)

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding; a tokenizer may have more tokens, and the config fewer."""
        return self.model.get_input_embeddings().weight.shape[0]

    @cached_property
    def sites(self) -> list[Site]:
        """All sites, layer by layer, attention first."""
        return [Site(layer, part) for layer in range(self.n_layers) for part in PARTS]

    @cached_property
    def absent(self) -> Mask:
        """Sites that have no weights: the layer has no such part, or the checkpoint is a pruned one."""
        if self.architecture.whole:
            return NONE
        return Mask(frozenset(site for site in self.sites if not self._has_weights(site)))

    def _has_weights(self, site: Site) -> bool:
        layer, names = self.wrappers.layers[site.layer], self.architecture.at(site.layer).modules(site.part)
        return any(next(getattr(layer, name).parameters(), None) is not None for name in names)

    @cached_property
    def never_there(self) -> Mask:
        """Sites that layers of this family lack, such as the MLP of a layer that is a state space alone."""
        if self.architecture.whole:
            return NONE
        return Mask(frozenset(site for site in self.sites if not self.architecture.at(site.layer).modules(site.part)))

    def completed(self, mask: Mask) -> Mask:
        """Return a mask of what is there, and of layers all of which it turns off."""
        every = mask | self.never_there
        return Mask(
            frozenset(s for s in every.sites if s.layer in every.whole_layers or s not in self.never_there.sites)
        )

    def numerics_key(self, rows: int, quantize: str = "") -> str:
        """Key of everything but text and mask that decides a stored number.

        Args:
            rows: windows in a batch.
            quantize: how the weights are quantized, were it otherwise.
        """
        return make_key(
            "numerics",
            model=self.digest,
            dtype=self.dtype,
            quantize=quantize or self.spec.quantize,
            processor=describe_processor(self.device),
            attention=str(self.model.config._attn_implementation),
            rows=str(rows),
            libraries=describe_libraries(),
        )

    def tokenize(
        self,
        text: str,
        tokens: int,
        window: int,
        bos: str = "auto",
        calibration: Sequence[str] | Mapping[str, float] = (),
        calibration_tokens: int = 0,
    ) -> Corpus:
        """Cut a text into this model's windows; see `text.tokenize`.

        Args:
            text: what is judged by, and decided by if no other is named.
            tokens: ids in each split.
            window: ids in a window.
            bos: whether each begins with BOS.
            calibration: texts that are decided by instead, an equal share of each or as much as each counts.
            calibration_tokens: ids to decide by; as many as are judged by, if 0.

        Raises TextError: see `text.tokenize`.
        """

        def cut(name: str, count: int) -> Corpus:
            return tokenize(
                name,
                self.tokenizer,
                tokens=count,
                window=window,
                bos=bos,
                positions=self.positions,
                vocabulary=self.vocabulary,
            )

        judged = cut(text, tokens)
        if not calibration and calibration_tokens in (0, tokens):
            return judged
        weights = dict(calibration) if isinstance(calibration, Mapping) else dict.fromkeys(calibration, 1.0)
        weights, total = weights or {text: 1.0}, sum(weights.values()) or 1.0
        parts = [cut(name, int((calibration_tokens or tokens) * weight // total)) for name, weight in weights.items()]
        return judged.decided_by(parts, write_mixture(weights))

    def unload(self) -> None:
        """Let the weights go."""
        self.wrappers.remove()
        self.model = self.wrappers = None  # type: ignore[assignment]
        gc.collect()  # modules and their wrappers refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def quieten_libraries() -> None:
    """Keep transformers and its kin from writing to stderr; what matters is reported as progress or an error."""
    from transformers.utils import logging as transformers_logging

    warnings.simplefilter("ignore")
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("huggingface_hub", "datasets", "httpx", "bitsandbytes", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)


def inspect_checkpoint(spec: ModelSpec, store: Store, cache: Path, progress: Progress = unreported) -> Checkpoint:
    """Find a model's files, fetched if need be, and see that they could be loaded; nothing is.

    Raises:
        ModelError: no such model, pickled weights, not a causal language model; quantized, and to be streamed.
        DeviceError: no such device, or several for a streamed model.
    """
    placement = place(spec.device)
    if spec.stream and placement.spread:
        raise DeviceError("A streamed model is not spread over devices", spec.device, "Use --device cpu or cuda:0")
    checkpoint = resolve_checkpoint(
        spec.model, store, cache, trust_remote_code=spec.trust_remote_code, progress=progress
    )
    check_declared(checkpoint.config, spec.trust_remote_code)
    if spec.stream and (spec.quantize != "none" or checkpoint.config.get("quantization_config")):
        raise ModelError("Quantized weights are not streamed", checkpoint.name, "Stream the 16-bit original")
    pick_dtype(spec.dtype, placement.device, None)
    return checkpoint


def load(
    spec: ModelSpec, store: Store, cache: Path, progress: Progress = unreported, checkpoint: Checkpoint | None = None
) -> LoadedModel:
    """Load a model, wrap its sites, and check that re-running its layers gives its own logits.

    Args:
        checkpoint: what `inspect_checkpoint` found; it is looked for if not given.

    Raises:
        ModelError: no such model, pickled or damaged weights, not a causal language model.
        UnsupportedModel: the self-check failed.
        DeviceError: no such device, or out of memory.
    """
    placement = place(spec.device)
    if not spec.stream:
        keep_freed_memory()
    checkpoint = checkpoint or inspect_checkpoint(spec, store, cache, progress)
    declared = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")
    dtype = pick_dtype(spec.dtype, placement.device, declared)
    if (
        spec.device == "auto"
        and not spec.stream
        and _count_bytes(checkpoint, dtype, spec.quantize) > free_bytes(placement.device)
    ):
        placement = place("map")
    progress(0, 3, "Reading the weights")
    model, unused = read_all_weights(
        checkpoint, placement, dtype, spec.quantize, spec.trust_remote_code, cache, spec.stream
    )
    progress(1, 3, "Reading the tokenizer")
    tokenizer = _load_tokenizer(checkpoint, spec.trust_remote_code)
    progress(2, 3, "Checking the model layer by layer")
    digest = checkpoint.digest(store)
    wrappers, parallel = wrap_as_found(model, digest, spec, store)
    architecture = wrappers.architecture
    per_token = count_bytes_per_token(model.config.get_text_config(decoder=True), dtype.itemsize)
    stored = checkpoint.config.get("quantization_config") or {}
    in_8_bits = spec.quantize == "int8" or bool(stored.get("load_in_8bit"))
    mixture = routes_tokens(wrappers.layers, architecture, model.config.get_text_config(decoder=True))
    one_window_at_a_time = in_8_bits or mixture  # outliers are found, and tokens sent to experts, batch by batch
    batch_shape = BatchShape(wrappers.device, per_token, one_window_at_a_time)
    progress(3, 3, "Ready")
    notices = (*checkpoint.notices, *unused.notices, *architecture.notices)
    return LoadedModel(
        spec,
        checkpoint,
        model,
        tokenizer,
        architecture,
        wrappers,
        parallel,
        digest,
        batch_shape,
        notices,
        unused.tensors,
    )


def _count_bytes(checkpoint: Checkpoint, dtype: torch.dtype, quantize: str) -> float:
    """Bytes that the weights will take, from the size of their files."""
    declared = DTYPES.get(str(checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")), torch.float32)
    parameters = sum(path.stat().st_size for path in checkpoint.weights) / declared.itemsize
    return parameters * {"int8": 1.0, "nf4": 0.56}.get(quantize, dtype.itemsize)


def _load_tokenizer(checkpoint: Checkpoint, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    with guarded("Cannot load the tokenizer", "Add the tokenizer's files to the folder"):
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
        tokenizer("a")
    return tokenizer
