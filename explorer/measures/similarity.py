"""LoadedModel, Corpus -> SimilarityStats: every similarity of the residual stream, in one pass.

A fitter observes the forward pass and keeps, on the model's device, only what the record needs: for each token the
Gram matrix of its L+1 boundary states, and for each layer that of its input and its two updates.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int
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
_GRAM_ENTRIES = {"cpu": 2**20, "cuda": 2**27}  # float64 entries of states in memory at once

_Arrays = dict[str, Float64[np.ndarray, " ..."]]
_Dots = Float64[Tensor, "positions 3 3 layers"]
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

    Dots and L1 norms of sites are taken as the layers run, in float32; the boundary states are kept, in the model's
    dtype, until the pass ends, then their Gram matrices are taken in float64 for some tokens at a time. Buffers are
    made once: on a CPU fresh memory costs more than the arithmetic.
    """

    def __init__(self, n_layers: int, parallel: bool, buffers: dict[str, Tensor] | None = None) -> None:
        self.n_layers, self.parallel = n_layers, parallel
        self.boundaries: list[Tensor] = []
        self.dots: list[Tensor] = []
        self.l1: list[Tensor] = []
        self._buffers = {} if buffers is None else buffers
        self._unseen: set[int] = set()

    def enter(self, layer: int, hidden: Hidden) -> None:
        if layer == 0:
            self.boundaries, self.dots, self.l1 = [], [], []
        self.boundaries.append(hidden.flatten(0, 1))
        self._layer_buffer(hidden)[0] = self.boundaries[-1]
        self._unseen = {1, 2}

    def update(self, site: Site, update: Hidden) -> None:
        row = 1 + PARTS.index(site.part)
        self._layer_buffer(update)[row] = update.flatten(0, 1)
        self._unseen.discard(row)

    def leave(self, layer: int, hidden: Hidden) -> None:
        x, a, m, both, before = rows = self._layer_buffer(hidden)
        for row in self._unseen:
            rows[row] = 0  # of what is off no update is seen
        states = rows[:3].transpose(0, 1)
        self.dots.append(states @ states.transpose(1, 2))
        torch.add(a, m, out=both)
        torch.add(x, 0 if self.parallel else a, out=before)
        self.l1.append(rows.abs_().sum(-1))
        if layer == self.n_layers - 1:
            self.boundaries.append(hidden.flatten(0, 1))

    def _layer_buffer(self, like: Hidden) -> Float32[Tensor, "5 positions width"]:
        """Rows for a layer's input x, its updates a and m, a + m, and x + a: x where attention and MLP are parallel."""
        shape = (5, like.shape[0] * like.shape[1], like.shape[2])
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
        first, second = torch.triu_indices(self.n_layers + 1, self.n_layers + 1, device=device)
        distances, norms = self._angular_distances(first, second)
        distances = distances.view(*shape, -1)
        layer = 1 - torch.cos(torch.pi * distances[..., second == first + 1])
        dots = torch.stack([dots.to(device) for dots in self.dots], dim=-1).double()
        l1 = torch.stack([sums.to(device) for sums in self.l1], dim=-1)
        influences = _site_influences(dots, self.parallel)
        sizes = {1: _relative_l1(l1), 2: _relative_l2(dots, self.parallel)}

        def square(pairs: Float64[Tensor, "windows pairs"]) -> Float64[Tensor, "windows boundaries boundaries"]:
            whole = pairs.new_empty(len(pairs), self.n_layers + 1, self.n_layers + 1)
            whole[:, first, second] = whole[:, second, first] = pairs
            return whole

        return {
            "angular_last_token": square(distances[:, -1]),
            "angular_mean": square(distances.mean(1)),
            "angular_mean_without_first": square(distances[:, 1:].mean(1)),
            "influence_layer": layer,
            "influence_attention": influences[0].view_as(layer),
            "influence_mlp": influences[1].view_as(layer),
            **{f"l{power}_{unit}": sizes[power][i].view_as(layer) for power in (1, 2) for i, unit in enumerate(UNITS)},
            "norms": norms.view(*shape, -1),
        }

    def _angular_distances(
        self, first: Int[Tensor, " pairs"], second: Int[Tensor, " pairs"]
    ) -> tuple[Float64[Tensor, "positions pairs"], Float64[Tensor, "positions boundaries"]]:
        """Angles over pi between pairs of boundary states of each token, and the norms of all."""
        tokens, width = self.boundaries[0].shape
        n, device = len(self.boundaries), first.device
        count = max(1, _GRAM_ENTRIES.get(device.type, _GRAM_ENTRIES["cpu"]) // (n * width))
        distances, norms = [], []
        for start in range(0, tokens, count):
            stop = min(start + count, tokens)
            states = self._buffer("states", (count, n, width), torch.float64, device)[: stop - start]
            for index, hidden in enumerate(self.boundaries):
                states[:, index] = hidden[start:stop]
            gram = self._buffer("gram", (count, n, n), torch.float64, device)[: stop - start]
            torch.bmm(states, states.transpose(1, 2), out=gram)
            squares = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-300)
            cos = gram[:, first, second] / (squares[:, first] * squares[:, second]).sqrt()
            distances.append(cos.clamp(-1, 1).acos() / torch.pi)
            norms.append(squares.sqrt())
        return torch.cat(distances), torch.cat(norms)


def _relative_l1(sums: Float32[Tensor, "5 positions layers"]) -> Float64[Tensor, "3 positions layers"]:
    """L1 norms of layers' updates over those of what they are added to: layer, attention, MLP."""
    x, a, m, both, before = sums
    return (torch.stack([both, a, m]) / torch.stack([x, x, before]).clamp_min(1e-30)).double()


def _relative_l2(dots: _Dots, parallel: bool) -> Float64[Tensor, "3 positions layers"]:
    """L2 norms of layers' updates over those of what they are added to: layer, attention, MLP."""
    (xx, xa, _), (_, aa, am), (_, _, mm) = dots.permute(1, 2, 0, 3)
    before = xx if parallel else xx + 2 * xa + aa
    squares = torch.stack([aa + 2 * am + mm, aa, mm]) / torch.stack([xx, xx, before]).clamp_min(1e-300)
    return squares.clamp_min(0).sqrt()


def _site_influences(dots: _Dots, parallel: bool) -> Float64[Tensor, "2 positions layers"]:
    """Influence of attention and MLP from the Gram matrices of (x, a, m).

    Attention: 1 - cos(x, x + a). MLP: 1 - cos(h, h + m), h being x in parallel blocks, else x + a.
    """
    (xx, xa, xm), (_, aa, am), (_, _, mm) = dots.permute(1, 2, 0, 3)
    before, along = (xx, xm) if parallel else (xx + 2 * xa + aa, xm + am)
    return torch.stack([_influence(xx, xa, aa), _influence(before, along, mm)])


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
