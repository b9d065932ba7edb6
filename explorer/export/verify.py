"""Reload what was written with its own loader and compare it with the variant in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from explorer.deltas import Variant
from explorer.errors import DeviceError, ExportError, ModelError, UnsupportedModel
from explorer.evaluation import Score, find_nll, run_batches, slice_positions, takes_cache, write_greedily
from explorer.export.export_plan import ExportPlan, Reload
from explorer.export.measurements import Verification
from explorer.export.zeros import check_zeros
from explorer.masks import NONE, Mask
from explorer.model import (
    LoadedModel,
    ModelWrappers,
    Placement,
    find_architecture,
    find_updates,
    pad_batch,
    read_weights,
    slice_rows,
)
from explorer.progress import Progress, unreported
from explorer.text import Corpus

_WRITTEN = 10  # tokens of text that are compared
_HANDED_ON = 4  # times the tolerance for text, whose states hand rounding on
_TIE = 8  # units within which two tokens tie
_OTHER_RUNTIME = 0.1  # nats a token; it multiplies with quantized activations
_RELATIVE = {"float32": 1e-5}  # of the perplexity; other dtypes 1e-3


@torch.inference_mode()
def verify(
    loaded: LoadedModel,
    folder: Path,
    planned: ExportPlan,
    variant: Mask | Variant,
    corpus: Corpus,
    measured: Score,
    progress: Progress = unreported,
) -> Verification:
    """Compare what was written with the variant, in the dtype, on the device and in the batches it was measured.

    Args:
        loaded: the model.
        folder: what was written.
        planned: how.
        variant: what is off, and changed.
        corpus: on whose held-out windows.
        measured: the variant's score.
        progress: told the windows.

    Raises:
        ExportError: it does not load whole, or differs by more than rounding.
    """
    lossy = planned.lossy
    expected = variant if variant.deltas else planned.layout.mask
    again = _reload(loaded, folder, planned.reload)
    found = loaded.batch_shape.run(
        lambda size: _compare(loaded, again, expected, corpus, size, folder, progress), corpus.window
    )
    relative = math.expm1(min(abs(found.nll_reloaded - found.nll_masked) / measured.n_tokens, 700))
    tolerance = math.inf if lossy else planned.units * torch.finfo(loaded.model.dtype).eps * found.largest
    allowed = max(lossy, _RELATIVE.get(loaded.dtype, 1e-3))
    masked, reloaded = (_perplexity(nll / measured.n_tokens) for nll in (found.nll_masked, found.nll_reloaded))
    if not (found.difference <= tolerance and relative <= allowed):
        raise ExportError(
            "The exported checkpoint is not what was measured",
            f"logits differ by {found.difference:.3g}, perplexity is {reloaded:.6g} and was {masked:.6g}",
            "Nothing was kept; report this model's layout",
        )
    same = (
        None if lossy or loaded.spec.stream else _compare_text(loaded, again, expected, corpus, _HANDED_ON * tolerance)
    )
    second = _measure_again(planned, folder, corpus, measured)
    zeros = check_zeros(loaded, again, planned.layout.kept, variant)
    return Verification(found.difference, masked, reloaded, planned.loader, same, second, zeros)


@dataclass
class _Found:
    """How two models compare so far: the largest difference of logits, the largest logit, summed nats of each."""

    difference: float = 0.0
    largest: float = 0.0
    nll_masked: float = 0.0
    nll_reloaded: float = 0.0


def _compare(
    loaded: LoadedModel,
    reloaded: ModelWrappers,
    variant: Mask | Variant,
    corpus: Corpus,
    size: int,
    folder: Path,
    progress: Progress,
) -> _Found:
    """Compare the logits of both on every held-out window, in batches of the shape in which it was scored.

    The first window is compared once more without wrappers around the reloaded model, as anybody will run it. States of
    a streamed model that are too many for memory lie in `folder`.
    """
    found, windows, nll = _Found(), corpus.held_out, (list[float](), list[float]())
    first = pad_batch(windows.ids[:1], 1, loaded.device)
    with loaded.wrappers.as_variant(variant):
        expected = loaded.model(input_ids=first, use_cache=False).logits
    _note(found, expected, reloaded.model(input_ids=first, use_cache=False).logits)
    both = ((loaded.wrappers, variant), (reloaded, NONE))
    ran = [run_batches(wrappers, windows.ids, size, each, folder) for wrappers, each in both]
    for part in slice_rows(len(windows), size):
        progress(part.start, len(windows), "Verifying")
        rows, ended = part.stop - part.start, [next(batches) for batches in ran]
        ids = ended[0][0]
        finished = [wrappers.finish(hidden)[:, :-1] for (wrappers, _), (_, hidden) in zip(both, ended, strict=True)]
        targets = ids[:, 1:]
        losses = torch.zeros((2, *targets.shape), dtype=torch.float64)
        for block in slice_positions(loaded.wrappers, targets.shape, loaded.device.type):
            pair = [
                wrappers.logits(states[block].flatten(0, 1), each)
                for (wrappers, each), states in zip(both, finished, strict=True)
            ]
            real = min(max(rows - block[0].start, 0) * targets[block].shape[1], len(pair[0]))
            _note(found, *(logits[:real] for logits in pair))
            for each, logits in zip(losses, pair, strict=True):
                each[block] = find_nll(logits, targets[block]).cpu()
        for sums, each in zip(nll, losses, strict=True):
            sums += each.sum(1)[:rows].tolist()
    found.nll_masked, found.nll_reloaded = map(math.fsum, nll)
    return found


def _compare_text(
    loaded: LoadedModel, reloaded: ModelWrappers, variant: Mask | Variant, corpus: Corpus, tolerance: float
) -> int:
    """Have both write the end of the first held-out window, greedily and with a cache; return how many tokens agree.

    They are all of them but where two are as likely as rounding can tell.

    Raises:
        UnsupportedModel: the variant in memory does not write.
        ExportError: what was written does not, or writes another token, or the logits of one differ by more than the
            tolerance.
    """
    tokens = min(_WRITTEN, corpus.window - 1)
    ids = torch.from_numpy(corpus.held_out.ids[:1, :-tokens]).to(loaded.device)
    cached = takes_cache(loaded)
    with loaded.wrappers.as_variant(variant):
        text, expected = write_greedily(loaded.model, ids, tokens, cached)
    try:
        again, logits = write_greedily(reloaded.model, ids, tokens, cached)
    except UnsupportedModel as error:
        raise ExportError("The exported checkpoint does not write", error.found, "Nothing was kept") from error
    for number, (ours, theirs) in enumerate(zip(expected, logits, strict=True)):
        found = _Found()
        _note(found, ours, theirs)
        chosen = text[number], again[number]
        gap = float(ours[0, chosen[0]] - ours[0, chosen[1]]) if chosen[0] != chosen[1] else 0.0
        if not (found.difference <= tolerance and gap <= _TIE * torch.finfo(loaded.model.dtype).eps * found.largest):
            raise ExportError(
                "The exported checkpoint does not write what was measured",
                f"logits of token {number + 1} differ by {found.difference:.3g}",
                "Nothing was kept; report this model's layout",
            )
        if chosen[0] != chosen[1]:
            return number
    return tokens


def _note(found: _Found, expected: Float[Tensor, " *any"], logits: Float[Tensor, " *any"]) -> None:
    """Note how far logits are from those expected; where neither is finite they agree."""
    expected, logits = expected.float(), logits.float().to(expected.device)
    same = ~expected.isfinite() & ~logits.isfinite()
    gap = (logits - expected).abs().masked_fill(same, 0.0).nan_to_num(nan=math.inf, posinf=math.inf)
    if gap.numel():
        found.difference = max(found.difference, float(gap.max()))
        found.largest = max(found.largest, float(expected.abs().masked_fill(same, 0.0).max()))


def _perplexity(per_token: float) -> float:
    return math.exp(per_token) if per_token < 700 else math.inf


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
        stream=loaded.spec.stream,
    )


def _reload(loaded: LoadedModel, folder: Path, reload: Reload | None) -> ModelWrappers:
    assert reload is not None
    try:
        model = reload(loaded, folder)
        return ModelWrappers(model, find_updates(model, find_architecture(model)))
    except DeviceError:
        raise DeviceError(
            f"Out of memory on {loaded.device}", "the copy does not fit beside the model", "Export with --device cpu"
        ) from None
    except ModelError as error:
        raise ExportError("The exported checkpoint does not load", error.found, "Nothing was kept") from error
