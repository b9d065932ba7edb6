"""Reload what was written with its own loader and compare it with the masked model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from explorer.devices import Placement
from explorer.errors import DeviceError, ExportError, ModelError
from explorer.export.evidence import Verification
from explorer.export.planned import ExportPlan, Reload
from explorer.loading import LoadedModel
from explorer.records import Corpus, Progress, Score, unreported
from explorer.weights import read_weights

_UNITS = 16  # in the last place of the largest logit
_OTHER_RUNTIME = 0.1  # nats a token; it multiplies with quantized activations
_RELATIVE = {"float32": 1e-5}  # of the perplexity; other dtypes 1e-3


@torch.inference_mode()
def verify(
    loaded: LoadedModel,
    folder: Path,
    planned: ExportPlan,
    corpus: Corpus,
    measured: Score,
    progress: Progress = unreported,
) -> Verification:
    """Compare what was written with the masked model, window by window, in the dtype and on the device it was measured.

    Args:
        measured: the mask's score.

    Raises:
        ExportError: it does not load whole, or differs by more than rounding.
    """
    lossy, mask = planned.lossy, planned.layout.mask
    reloaded = _reload(loaded, folder, planned.reload)
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
    del reloaded  # what comes next may load a copy of its own
    per_token = math.fsum(nats) / measured.n_tokens
    perplexity = math.exp(per_token) if per_token < 700 else math.inf
    relative = math.expm1(min(abs(per_token - measured.total_nats / measured.n_tokens), 700))
    tolerance = math.inf if lossy else _UNITS * torch.finfo(loaded.model.dtype).eps * largest
    if not (difference <= tolerance and relative <= max(lossy, _RELATIVE.get(loaded.dtype, 1e-3))):
        raise ExportError(
            "The exported checkpoint is not what was measured",
            f"logits differ by {difference:.3g}, perplexity is {perplexity:.6g} and was {measured.perplexity:.6g}",
            "Nothing was kept; report this model's layout",
        )
    second = _measure_again(planned, folder, corpus, measured)
    return Verification(difference, measured.perplexity, perplexity, planned.loader, second)


def _measure_again(planned: ExportPlan, folder: Path, corpus: Corpus, measured: Score) -> float | None:
    """Return another runtime's perplexity, where there is one. Raises ExportError if it is another model's."""
    found = planned.second and planned.second(folder, corpus.held_out.ids.tolist())
    if found and abs(math.log(found / measured.perplexity)) > _OTHER_RUNTIME:
        raise ExportError(
            "llama.cpp reads another model in the file",
            f"its perplexity is {found:.6g} and was {measured.perplexity:.6g}",
            "Nothing was kept; report this model's layout",
        )
    return found or None


def reload_checkpoint(loaded: LoadedModel, folder: Path, own_code: bool = False) -> Any:
    """Load a folder of safetensors with transformers; `own_code` is that which this program put there."""
    return read_weights(
        folder,
        Placement(loaded.device),
        loaded.model.dtype,
        loaded.spec.quantize,
        own_code or loaded.spec.trust_remote_code,
    )


def _reload(loaded: LoadedModel, folder: Path, reload: Reload | None) -> Any:
    assert reload is not None
    try:
        return reload(loaded, folder)
    except DeviceError:
        raise DeviceError(
            f"Out of memory on {loaded.device}", "the copy does not fit beside the model", "Export with --device cpu"
        ) from None
    except ModelError as error:
        raise ExportError("The exported checkpoint does not load", error.found, "Nothing was kept") from error
