"""LoadedModel, Corpus -> Importance: how much of an update a linear map of the residual stream explains.

Windows of both splits go through the model layer by layer, so that the states of one layer only are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from explorer.masks import NONE, PARTS, Site
from explorer.measures.importance import Importance
from explorer.measures.measure_type import Measure, Setting
from explorer.model import Hidden, LayerInputs, LoadedModel, pad_batch, slice_rows
from explorer.numerics import fit_ridge, jackknife
from explorer.progress import Progress, unreported
from explorer.text import Corpus, Split

#: The stream before a unit and what the unit adds.
_Pair = tuple[Float64[Tensor, "windows positions width"], Float64[Tensor, "windows positions width"]]


@torch.inference_mode()
def measure_replaceability(
    loaded: LoadedModel, corpus: Corpus, progress: Progress = unreported, size: int = 1
) -> list[Importance]:
    """Share of an update that a linear map explains: 1 - sum |f - (B x + b)|^2 / sum |f|^2.

    x is the residual stream before the layer or site and f what it adds. The map is fitted on calibration windows by
    ridge regression, its penalty by generalised cross-validation (Golub et al., Technometrics 21, 1979), and judged on
    held-out ones; the first token of each window, whose massive activations would be most of the sums, is left out.
    An update that is nothing is explained.
    A linear map in the place of a block: ReplaceMe (arXiv:2505.02819) and Siddiqui et al. (arXiv:2407.16286). Where
    the arithmetic overflows there is NaN.

    Args:
        size: windows in a batch.

    Raises:
        Cancelled: `progress` raised it.
    """
    units = ("layer", *PARTS)
    found, samples = np.zeros((loaded.n_layers, 3)), np.zeros((loaded.n_layers, len(corpus.held_out), 3))
    calibration, held_out = (_walk(loaded, corpus, split, size) for split in ("calibration", "held-out"))
    for layer, (fitted, judged) in enumerate(zip(calibration, held_out, strict=True)):
        progress(layer, loaded.n_layers, "Linear maps, layer by layer")
        for column, unit in enumerate(units):
            found[layer, column], samples[layer, :, column] = _explain(fitted.pair(unit), judged.pair(unit))
    progress(loaded.n_layers, loaded.n_layers, "Linear maps, layer by layer")
    return [
        Importance("replaceability", unit, found[:, i], samples[:, :, i].T, redundant="high")
        for i, unit in enumerate(units)
    ]


class _Seen:
    """What goes in and what is added in one layer, over all windows of a split, without their first tokens."""

    def __init__(self, parallel: bool, n_windows: int) -> None:
        self.parallel, self.n_windows = parallel, n_windows
        self.hidden: list[Hidden] = []
        self.updates: dict[str, list[Hidden]] = {part: [] for part in PARTS}

    def enter(self, layer: int, hidden: Hidden) -> None:
        self.hidden.append(hidden[:, 1:].float())

    def update(self, site: Site, update: Hidden) -> None:
        self.updates[site.part].append(update[:, 1:].to(torch.float32, copy=True))  # some layers add in place

    def leave(self, layer: int, hidden: Hidden) -> None:
        pass

    def pair(self, unit: str) -> _Pair:
        """The stream before a unit and what the unit adds."""
        seen = (torch.cat(parts)[: self.n_windows] for parts in (self.hidden, *self.updates.values()))
        x, a, m = (states.double() for states in seen)
        if unit == "layer":
            return x, a + m
        return (x, a) if unit == "attention" else (x if self.parallel else x + a, m)


def _walk(loaded: LoadedModel, corpus: Corpus, split: Split, size: int) -> Iterator[_Seen]:
    """Yield what is seen in each layer, all windows of a split taking one layer at a time."""
    wrappers, windows = loaded.wrappers, corpus.split(split)
    traces = [
        wrappers.layer_inputs(pad_batch(windows.ids[rows], size, loaded.device))
        for rows in slice_rows(len(windows), size)
    ]
    batches: list[tuple[LayerInputs, Hidden]] = [(layer_inputs, layer_inputs.hidden) for layer_inputs in traces]
    for layer in range(loaded.n_layers):
        seen = _Seen(loaded.parallel, len(windows))
        with wrappers.observe(seen, NONE):
            batches = [
                (layer_inputs, wrappers.run_layer(layer, hidden, layer_inputs.calls[layer]))
                for layer_inputs, hidden in batches
            ]
        yield seen


def _explain(fitted: _Pair, judged: _Pair) -> tuple[float, Float64[np.ndarray, " windows"]]:
    """Share of the judged updates' squares that the fitted map explains, and pseudo-values over windows."""
    if not all(tensor.isfinite().all() for tensor in (*fitted, *judged)):
        return np.nan, np.full(len(judged[0]), np.nan)
    weights, bias = fit_ridge(*(tensor.flatten(0, 1) for tensor in fitted))
    x, f = judged
    missed = (f - x @ weights - bias).square().sum((1, 2)).cpu().numpy()
    whole = f.square().sum((1, 2)).cpu().numpy()

    def share(chosen: Bool[np.ndarray, " windows"]) -> Float64[np.ndarray, " 1"]:
        return 1 - missed[chosen].sum(keepdims=True) / max(whole[chosen].sum(), 1e-300)

    value, pseudo = jackknife(len(x), share)
    return float(value[0]), pseudo[:, 0]


def _take(setting: Setting) -> list[Importance]:
    loaded, corpus, progress = setting.loaded, setting.corpus, setting.progress
    return setting.stored("replaceability", lambda size: measure_replaceability(loaded, corpus, progress, size), "high")


REPLACEABILITY = Measure(
    "replaceability", "Linear replaceability", "linear", "ReplaceMe, arXiv:2505.02819",
    _take, "hidden states", "one pass", redundant="high",
)  # fmt: skip
