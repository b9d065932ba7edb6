"""LoadedModel, Corpus -> Importance: how much of an update a linear map of the residual stream explains.

Windows of both splits go through the model layer by layer, so that the states of one layer only are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from explorer.deltas import Variant
from explorer.masks import NONE, PARTS, Mask
from explorer.measures.importance import Importance
from explorer.measures.measure_type import Measure, MeasureSetting
from explorer.model import Hidden, LayerwisePass, LoadedModel, States
from explorer.numerics import fit_ridge, jackknife
from explorer.progress import Progress, unreported
from explorer.text import Corpus

#: The stream before a unit and what the unit adds.
_Pair = tuple[Float64[Tensor, "windows positions width"], Float64[Tensor, "windows positions width"]]


@torch.inference_mode()
def measure_replaceability(
    loaded: LoadedModel,
    corpus: Corpus,
    progress: Progress = unreported,
    size: int = 1,
    folder: Path | None = None,
    variant: Mask | Variant = NONE,
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
        folder: where states lie that are too many for memory.
        variant: what is off, and changed.

    Raises:
        Cancelled: `progress` raised it.
    """
    units = ("layer", *PARTS)
    found, samples = np.zeros((loaded.n_layers, 3)), np.zeros((loaded.n_layers, len(corpus.held_out), 3))
    runs = [LayerwisePass(loaded, windows.ids, size, folder) for windows in (corpus.calibration, corpus.held_out)]
    depths = [run.embed() for run in runs]
    for layer in range(loaded.n_layers):
        progress(layer, loaded.n_layers, "Linear maps, layer by layer")
        with loaded.wrappers.kept(layer):
            fitted, judged = (_Seen.take(run, layer, states, variant) for run, states in zip(runs, depths, strict=True))
        for column, unit in enumerate(units):
            found[layer, column], samples[layer, :, column] = _explain(fitted.pair(unit), judged.pair(unit))
    progress(loaded.n_layers, loaded.n_layers, "Linear maps, layer by layer")
    return [
        Importance("replaceability", unit, found[:, i], samples[:, :, i].T, redundant="high")
        for i, unit in enumerate(units)
    ]


@dataclass
class _Seen:
    """What goes in and what is added in one layer, over all windows of a split, without their first tokens.

    Args:
        parallel: whether attention and MLP read the same stream.
        hidden: the layer's input, float32.
        updates: what attention and MLP add, float32.
    """

    parallel: bool
    hidden: Hidden
    updates: list[Hidden]

    @classmethod
    def take(cls, run: LayerwisePass, layer: int, states: States, variant: Mask | Variant) -> _Seen:
        """Run a layer and keep what is seen; its output is put in the place of its input."""
        parts: list[list[Hidden]] = []
        for seen in run.look(layer, states, variant, updates=True):
            nothing = torch.zeros_like(seen.before)
            tensors = (seen.before, *(seen.updates.get(part, nothing) for part in PARTS))
            parts.append([tensor[:, 1:].to(torch.float32, copy=True) for tensor in tensors])
            states[seen.rows] = seen.packed
        hidden, *updates = (torch.cat(each) for each in zip(*parts, strict=True))
        return cls(run.loaded.parallel, hidden, updates)

    def pair(self, unit: str) -> _Pair:
        """The stream before a unit and what the unit adds."""
        x, a, m = (states.double() for states in (self.hidden, *self.updates))
        if unit == "layer":
            return x, a + m
        return (x, a) if unit == "attention" else (x if self.parallel else x + a, m)


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


def _take(setting: MeasureSetting) -> list[Importance]:
    loaded, corpus, progress, folder = setting.loaded, setting.corpus, setting.progress, setting.store.folder
    return setting.stored(
        "replaceability",
        lambda size: measure_replaceability(loaded, corpus, progress, size, folder, setting.variant),
        "high",
    )


REPLACEABILITY = Measure(
    "replaceability", "Linear replaceability", "linear", "ReplaceMe, arXiv:2505.02819",
    r"$1 - \sum \lVert f - (Bx + b) \rVert^2 / \sum \lVert f \rVert^2$ on held-out windows, f what it adds to x",
    _take, "hidden states", "one pass", redundant="high",
)  # fmt: skip
