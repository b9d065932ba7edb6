"""LoadedModel, Corpus -> SimilarityStats: every similarity of the residual stream, in one pass.

A fitter observes the forward pass and keeps, on the model's device, only what the record needs: for each token the
Gram matrix of its L+1 boundary states, and for each layer that of its input and its two updates.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from explorer.deltas import Variant
from explorer.masks import NONE, PARTS, Mask, Site
from explorer.measures.importance import Importance
from explorer.measures.measure_type import UNITS, Measure, MeasureSetting
from explorer.measures.similarity_stats import SimilarityStats
from explorer.model import Hidden, LayerwisePass, LoadedModel, pad_batch, slice_rows
from explorer.progress import Progress, unreported
from explorer.storage import Store, make_key
from explorer.text import Corpus

TOKEN_CHOICES = ("last_token", "mean", "mean_without_first")
_GRAM_ENTRIES = {"cpu": 2**22, "cuda": 2**27}  # float64 entries of states in memory at once

_Arrays = dict[str, Float64[np.ndarray, " ..."]]
_Rows = Float32[Tensor, "positions width"]
_Dots = Float64[Tensor, "positions 3 3"]
_Numbers = Float64[Tensor, " *any"]


def measure_similarity(
    loaded: LoadedModel, corpus: Corpus, store: Store, progress: Progress = unreported, variant: Mask | Variant = NONE
) -> SimilarityStats:
    """Measure the residual stream on the calibration windows, of a variant if there is one.

    Angular distance d(l, n) = arccos(cos(x_l, x_{l+n})) / pi between the inputs of layers l and l+n (Gromov et al.,
    arXiv:2403.17887); block influence 1 - E cos(before, after) of layers (ShortGPT, arXiv:2403.03853) and of sites
    (LLM-Drop, arXiv:2406.15786); L1 and L2 norms of updates, relative to those of what they are added to (Siddiqui et
    al., arXiv:2407.16286); residual norms. Stored arrays are returned at once. What is off has no update. Where the
    arithmetic overflows there is NaN.

    Raises:
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; nothing is stored.
    """

    def work(size: int) -> _Arrays:
        key = make_key("redundancy", context=loaded.numerics_key(size), corpus=corpus.digest, mask=variant.key)
        arrays = store.arrays(key)
        if arrays is None:
            if loaded.spec.stream:
                run = LayerwisePass(loaded, corpus.calibration.ids, size, store.folder)
                arrays = _measure_by_layers(run, progress, variant.checked(loaded.n_layers))
            else:
                arrays = _measure(loaded, corpus, progress, variant.checked(loaded.n_layers), size)
            store.add_arrays(key, arrays)
        return arrays

    arrays = loaded.batch_shape.run(work, corpus.window)
    return SimilarityStats(
        {choice: arrays[f"angular_{choice}"] for choice in TOKEN_CHOICES},
        {unit: arrays[f"influence_{unit}"] for unit in UNITS},
        {(power, unit): arrays[f"l{power}_{unit}"] for power in (1, 2) for unit in UNITS},
        arrays["norms"],
        tokens=corpus.calibration.ids.size,
        corpus=corpus.digest,
        text=corpus.name,
        model=loaded.spec.model,
        dtype=loaded.dtype,
    )


def read_similarity(found: SimilarityStats) -> list[Importance]:
    """Take the measures of the residual stream from what one pass recorded."""
    angular = np.diagonal(found.angular["last_token"], 1, 1, 2)
    read = [Importance("angular-distance", "layer", angular.mean(0), angular)]
    for unit in UNITS:
        for name, tokens in (
            ("block-influence", found.influence[unit]),
            ("relative-l1", found.sizes[1, unit]),
            ("relative-l2", found.sizes[2, unit]),
        ):
            windows = tokens.mean(axis=1)
            read.append(Importance(name, unit, windows.mean(0), windows))
    return read


def find_intervals(
    found: SimilarityStats, token: str, draws: int = 1000, seed: int = 0
) -> Float64[np.ndarray, "boundaries boundaries 2"] | None:
    """95% bootstrap intervals, low and high, of the angular distance of every pair of boundaries."""
    windows = found.angular[token]
    flat = windows.reshape(len(windows), -1)
    intervals = Importance("angular-distance", "layer", flat.mean(0), flat).intervals(draws, seed)
    return None if intervals is None else intervals.reshape(*windows.shape[1:], 2)


@torch.inference_mode()
def _measure(loaded: LoadedModel, corpus: Corpus, progress: Progress, variant: Mask | Variant, size: int) -> _Arrays:
    windows = corpus.calibration
    fitter = _Fitter(loaded.n_layers, loaded.parallel)
    fitted: list[dict[str, Tensor]] = []
    progress(0, len(windows), "Measuring similarity")
    for rows in slice_rows(len(windows), size):
        ids = pad_batch(windows.ids[rows], size, loaded.device)
        with loaded.wrappers.observe(fitter, variant):
            loaded.model.base_model(input_ids=ids, use_cache=False)
        fitted.append({name: values[: rows.stop - rows.start] for name, values in fitter.fit(ids.shape).items()})
        progress(rows.stop, len(windows), "Measuring similarity")
    return _join(fitted)


@torch.inference_mode()
def _measure_by_layers(run: LayerwisePass, progress: Progress, variant: Mask | Variant) -> _Arrays:
    """Measure the same to the last bit, all windows taken through a layer before the next one."""
    loaded, buffers = run.loaded, dict[str, Tensor]()
    fitters = [_Fitter(loaded.n_layers, loaded.parallel, buffers) for _ in run.batches()]
    depths = [run.embed()]
    for layer in range(loaded.n_layers):
        progress(layer, loaded.n_layers, "Measuring similarity, layer by layer")
        depths.append(depths[-1].like())
        for _, fitter in zip(run.show(layer, depths[-2], fitters, variant, depths[-1]), fitters, strict=True):
            fitter.boundaries = []
    fitted: list[dict[str, Tensor]] = []
    for (rows, ids), fitter in zip(run.batches(), fitters, strict=True):
        fitter.boundaries = [run.fill(states[rows]).flatten(0, 1) for states in depths]
        fitted.append({name: values[: rows.stop - rows.start] for name, values in fitter.fit(ids.shape).items()})
        fitter.boundaries = []
    progress(loaded.n_layers, loaded.n_layers, "Measuring similarity, layer by layer")
    return _join(fitted)


def _join(fitted: list[dict[str, Tensor]]) -> _Arrays:
    return {name: torch.cat([part[name] for part in fitted]).cpu().numpy() for name in fitted[0]}


class _Fitter:
    """Observes batches of windows, one at a time.

    Site dots are taken as the layers run, in float32; the boundary states are kept, in the model's dtype, until the
    pass ends, then their Gram matrices are taken in float64 for some tokens at a time. Buffers are made once: on a
    CPU fresh memory costs more than the arithmetic.
    """

    def __init__(self, n_layers: int, parallel: bool, buffers: dict[str, Tensor] | None = None) -> None:
        self.n_layers, self.parallel = n_layers, parallel
        self.boundaries: list[Tensor] = []
        self.dots: list[Tensor] = []
        self.sizes: list[Tensor] = []
        self._buffers = {} if buffers is None else buffers

    def enter(self, layer: int, hidden: Hidden) -> None:
        if layer == 0:
            self.boundaries, self.dots, self.sizes = [], [], []
        self.boundaries.append(hidden.flatten(0, 1))
        rows = self._layer_buffer(hidden)
        rows[:, 0] = self.boundaries[-1]
        rows[:, 1:] = 0  # of what is off no update is seen

    def update(self, site: Site, update: Hidden) -> None:
        self._layer_buffer(update)[:, 1 + PARTS.index(site.part)] = update.flatten(0, 1)

    def leave(self, layer: int, hidden: Hidden) -> None:
        rows = self._layer_buffer(hidden)
        self.dots.append((rows @ rows.transpose(1, 2)).double())
        self.sizes.append(self._relative_l1(*rows.unbind(1)))
        if layer == self.n_layers - 1:
            self.boundaries.append(hidden.flatten(0, 1))

    def _relative_l1(self, x: _Rows, a: _Rows, m: _Rows) -> Float32[Tensor, "3 positions"]:
        """L1 norms of a layer's updates over those of what they are added to: layer, attention, MLP."""
        both = self._buffer("sum", x.shape, torch.float32, x.device)
        of_layer = _l1(torch.add(a, m, out=both))
        before = x if self.parallel else torch.add(x, a, out=both)
        of_x = _l1(x).clamp_min(1e-30)
        return torch.stack([of_layer / of_x, _l1(a) / of_x, _l1(m) / _l1(before).clamp_min(1e-30)])

    def _layer_buffer(self, like: Hidden) -> Float32[Tensor, "positions 3 width"]:
        """Rows for a layer's input, attention update and MLP update."""
        shape = (like.shape[0] * like.shape[1], 3, like.shape[2])
        return self._buffer("layer", shape, torch.float32, like.device)

    def _buffer(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
    ) -> Float[Tensor, " ..."]:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.shape != shape or buffer.device != device:
            buffer = self._buffers[name] = torch.empty(shape, dtype=dtype, device=device)
        return buffer

    def fit(self, shape: tuple[int, ...]) -> dict[str, Float64[Tensor, " ..."]]:
        """Return the record's arrays for the batch (windows, window) that was just seen."""
        device = self.boundaries[-1].device
        distances, norms = self._angular_distances(device)
        distances = distances.view(*shape, *distances.shape[1:])
        layer = 1 - torch.cos(torch.pi * distances.diagonal(1, -2, -1))
        sites = torch.stack([_site_influences(dots, self.parallel).to(device) for dots in self.dots], dim=-1)
        l2 = torch.stack([_relative_l2(dots, self.parallel).to(device) for dots in self.dots], dim=-1)
        l1 = torch.stack([sizes.to(device) for sizes in self.sizes], dim=-1).double()
        return {
            "angular_last_token": distances[:, -1],
            "angular_mean": distances.mean(1),
            "angular_mean_without_first": distances[:, 1:].mean(1),
            "influence_layer": layer,
            "influence_attention": sites[0].view_as(layer),
            "influence_mlp": sites[1].view_as(layer),
            **{f"l1_{unit}": l1[i].view_as(layer) for i, unit in enumerate(UNITS)},
            **{f"l2_{unit}": l2[i].view_as(layer) for i, unit in enumerate(UNITS)},
            "norms": norms.view(*shape, -1),
        }

    def _angular_distances(
        self, device: torch.device
    ) -> tuple[Float64[Tensor, "positions boundaries boundaries"], Float64[Tensor, "positions boundaries"]]:
        """Angles over pi between the boundary states of each token, and their norms."""
        tokens, width = self.boundaries[0].shape
        count = max(1, _GRAM_ENTRIES.get(device.type, 2**22) // (len(self.boundaries) * width))
        distances, norms = [], []
        for start in range(0, tokens, count):
            stop = min(start + count, tokens)
            states = self._buffer("states", (count, len(self.boundaries), width), torch.float64, device)[: stop - start]
            for index, hidden in enumerate(self.boundaries):
                states[:, index] = hidden[start:stop]
            gram = states @ states.transpose(1, 2)
            squares = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-300)
            cos = (gram / (squares[:, :, None] * squares[:, None, :]).sqrt()).clamp(-1, 1)
            distances.append(2 / math.pi * torch.atan2((1 - cos).sqrt(), (1 + cos).sqrt()))
            norms.append(squares.sqrt())
        return torch.cat(distances), torch.cat(norms)


def _l1(rows: _Rows) -> Float32[Tensor, " positions"]:
    return torch.linalg.vector_norm(rows, 1, dim=-1)


def _relative_l2(dots: _Dots, parallel: bool) -> Float64[Tensor, "3 positions"]:
    """L2 norms of a layer's updates over those of what they are added to: layer, attention, MLP."""
    (xx, xa, _), (_, aa, am), (_, _, mm) = dots.permute(1, 2, 0)
    before = xx if parallel else xx + 2 * xa + aa
    squares = torch.stack([aa + 2 * am + mm, aa, mm]) / torch.stack([xx, xx, before]).clamp_min(1e-300)
    return squares.clamp_min(0).sqrt()


def _site_influences(dots: _Dots, parallel: bool) -> Float64[Tensor, "2 positions"]:
    """Influence of attention and MLP from the Gram matrices of (x, a, m).

    Attention: 1 - cos(x, x + a). MLP: 1 - cos(h, h + m), h being x in parallel blocks, else x + a.
    """
    x, a, m = 0, 1, 2
    before, along = dots[:, x, x], dots[:, x, m]
    if not parallel:
        before, along = before + 2 * dots[:, x, a] + dots[:, a, a], along + dots[:, a, m]
    return torch.stack(
        [_influence(dots[:, x, x], dots[:, x, a], dots[:, a, a]), _influence(before, along, dots[:, m, m])]
    )


def _influence(xx: _Numbers, xf: _Numbers, ff: _Numbers) -> _Numbers:
    """1 - cos(x, x + f) from dot products, without the cancellation of 1 - cos near 1.

    By Lagrange's identity |x|^2 |y|^2 - (x.y)^2 = |x|^2 |f|^2 - (x.f)^2 for y = x + f, so the sine is exact even where
    the cosine rounds to 1; and 1 - cos = sin^2 / (1 + cos) for cos >= 0.
    """
    yy = (xx + 2 * xf + ff).clamp_min(0)
    scale = (xx * yy).sqrt().clamp_min(1e-300)
    cos = ((xx + xf) / scale).clamp(-1, 1)
    sin2 = ((xx * ff - xf * xf) / scale.square()).clamp(0, 1)
    return torch.where(cos > 0, sin2 / (1 + cos), 1 - cos)


def _take(setting: MeasureSetting) -> list[Importance]:
    """Take all of these measures in one pass."""
    found = measure_similarity(setting.loaded, setting.corpus, setting.store, setting.progress, setting.variant)
    return read_similarity(found)


_SIDDIQUI = "Siddiqui et al., arXiv:2407.16286"
_INFLUENCE = "ShortGPT, arXiv:2403.03853; LLM-Drop, arXiv:2406.15786"


_WHERE = "h the residual stream before it, f what it adds"
_define = partial(Measure, kind="similarity", function=_take, needs="hidden states", cost="one pass")

ANGULAR_DISTANCE = _define(
    "angular-distance", "Angular distance, last token", source="Gromov et al., arXiv:2403.17887", units=("layer",),
    formula=r"$\arccos(\cos(x_l, x_{l+1})) / \pi$, $x_l$ the input of layer l at a window's last token",
)  # fmt: skip
_FORMULAS = [rf"$\mathbb{{E}} \, \lVert f \rVert_{p} / \lVert h \rVert_{p}$, {_WHERE}" for p in (1, 2)]
_COSINE = rf"$1 - \mathbb{{E}} \cos(h, h + f)$, {_WHERE}"
BLOCK_INFLUENCE = _define("block-influence", "Block influence", source=_INFLUENCE, formula=_COSINE)
RELATIVE_L1 = _define("relative-l1", "Relative L1 of the update", source=_SIDDIQUI, formula=_FORMULAS[0])
RELATIVE_L2 = _define("relative-l2", "Relative L2 of the update", source=_SIDDIQUI, formula=_FORMULAS[1])
