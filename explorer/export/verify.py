"""Reload what was written with its own loader and compare it with the masked model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from explorer.devices import Placement
from explorer.errors import DeviceError, ExportError, ModelError
from explorer.export.evidence import Verification
from explorer.loading import LoadedModel
from explorer.masks import Mask
from explorer.records import Corpus, Progress, Score, unreported
from explorer.weights import read_weights

#: Reloads a written folder as a transformers model, in the dtype and on the device of the loaded one.
Reload = Callable[[LoadedModel, Path], Any]

_UNITS = 16  # in the last place of the largest logit
_RELATIVE = {"float32": 1e-5}  # of the perplexity; other dtypes 1e-3


@torch.inference_mode()
def verify(
    loaded: LoadedModel,
    folder: Path,
    mask: Mask,
    corpus: Corpus,
    measured: Score,
    reload: Reload,
    loader: str,
    lossy: float = 0.0,
    progress: Progress = unreported,
) -> Verification:
    """Compare what was written with the masked model, window by window, in the dtype and on the device it was measured.

    Args:
        measured: the mask's score.
        reload: loads the folder.
        loader: who that is, in words.
        lossy: relative change of the perplexity that the target's own rounding may make; 0 if it keeps every bit.

    Raises:
        ExportError: it does not load whole, or differs by more than rounding.
    """
    reloaded = _reload(loaded, folder, reload)
    difference, largest, nats = 0.0, 0.0, []
    for done, row in enumerate(corpus.held_out.ids):
        progress(done, len(corpus.held_out), "Verifying")
        ids = torch.from_numpy(row)[None].to(loaded.device)
        with loaded.hooks.masked(mask):
            expected = loaded.model(ids, use_cache=False).logits.float()
        logits = reloaded(ids, use_cache=False).logits.float()
        difference = max(difference, float((logits - expected).abs().max()))
        largest = max(largest, float(expected.abs().max()))
        nats.append(float(F.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")))
    perplexity = math.exp(math.fsum(nats) / measured.n_tokens)
    relative = abs(perplexity / measured.perplexity - 1)
    tolerance = math.inf if lossy else _UNITS * torch.finfo(loaded.model.dtype).eps * largest
    if not (difference <= tolerance and relative <= max(lossy, _RELATIVE.get(loaded.dtype, 1e-3))):
        raise ExportError(
            "The exported checkpoint is not what was measured",
            f"logits differ by {difference:.3g}, perplexity is {perplexity:.6g} and was {measured.perplexity:.6g}",
            "Nothing was kept; report this model's layout",
        )
    return Verification(difference, measured.perplexity, perplexity, loader)


def reload_checkpoint(loaded: LoadedModel, folder: Path, own_code: bool = False) -> Any:
    """Load a folder of safetensors with transformers; `own_code` is that which this program put there."""
    return read_weights(
        folder,
        Placement(loaded.device),
        loaded.model.dtype,
        loaded.spec.quantize,
        own_code or loaded.spec.trust_remote_code,
    )


def _reload(loaded: LoadedModel, folder: Path, reload: Reload) -> Any:
    try:
        return reload(loaded, folder)
    except DeviceError:
        raise DeviceError(
            f"Out of memory on {loaded.device}", "the copy does not fit beside the model", "Export with --device cpu"
        ) from None
    except ModelError as error:
        raise ExportError("The exported checkpoint does not load", error.found, "Nothing was kept") from error
