"""Reload what was written with plain transformers and compare it with the masked model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from explorer.devices import Placement
from explorer.errors import DeviceError, ExportError, ModelError
from explorer.loading import LoadedModel
from explorer.masks import Mask
from explorer.records import Corpus, Progress, Score, unreported
from explorer.scoring import score
from explorer.store import Store
from explorer.weights import read_weights

_UNITS = 16  # in the last place of the largest logit
_RELATIVE = {"float32": 1e-5}  # of the perplexity; other dtypes 1e-3


@dataclass(frozen=True)
class Verification:
    """How the reloaded checkpoint compares with the masked model on the held-out windows."""

    max_abs_logit_difference: float
    perplexity_masked: float
    perplexity_reloaded: float
    score: Score


@torch.inference_mode()
def verify(
    loaded: LoadedModel, folder: Path, mask: Mask, corpus: Corpus, store: Store, progress: Progress = unreported
) -> Verification:
    """Compare a checkpoint with the masked model, window by window, in the dtype and on the device it was measured.

    Raises:
        ExportError: it does not load whole, or differs by more than rounding.
    """
    (measured,) = score(loaded, corpus, [mask], store, progress=progress)
    reloaded = _reload(loaded, folder)
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
    tolerance = _UNITS * torch.finfo(loaded.model.dtype).eps * largest
    if difference > tolerance or relative > _RELATIVE.get(loaded.dtype, 1e-3):
        raise ExportError(
            "The exported checkpoint is not what was measured",
            f"logits differ by {difference:.3g}, perplexity is {perplexity:.6g} and was {measured.perplexity:.6g}",
            "Nothing was kept; report this model's layout",
        )
    return Verification(difference, measured.perplexity, perplexity, measured)


def _reload(loaded: LoadedModel, folder: Path) -> Any:
    try:
        return read_weights(
            folder,
            Placement(loaded.device),
            loaded.model.dtype,
            loaded.spec.quantize,
            loaded.spec.trust_remote_code,
        )
    except DeviceError:
        raise DeviceError(
            f"Out of memory on {loaded.device}", "the copy does not fit beside the model", "Export with --device cpu"
        ) from None
    except ModelError as error:
        raise ExportError("The exported checkpoint does not load", error.found, "Nothing was kept") from error
