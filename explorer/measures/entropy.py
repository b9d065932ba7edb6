"""LoadedModel, Corpus -> [Importance]: how much entropy a layer or site adds to the hidden states (EntroDrop)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from explorer.deltas import Variant
from explorer.masks import NONE, PARTS, Mask, Site
from explorer.measures.importance import Importance
from explorer.measures.measure_type import UNITS, Measure, MeasureSetting
from explorer.model import LayerwisePass, LoadedModel
from explorer.progress import Progress, unreported
from explorer.text import Corpus

BINS = 20  # of each dimension, as in the authors' code

_Hidden = Float[Tensor, "batch positions width"]


@torch.inference_mode()
def measure_entropy(
    loaded: LoadedModel,
    corpus: Corpus,
    progress: Progress = unreported,
    size: int = 1,
    folder: Path | None = None,
    variant: Mask | Variant = NONE,
) -> list[Importance]:
    """Increase of the entropy of the hidden states over each layer and site: H(after) - H(before), in nats.

    EntroDrop (Yang et al., arXiv:2504.03794), by its bucket estimator: H is the sum, over the dimensions of the hidden
    state, of the entropy of a histogram of 20 bins of one width, from the least to the largest value that the tokens
    of a window have in that dimension. A dimension in which all tokens are equal has none. H is taken of each
    calibration window, and the increases are averaged over windows, which are the samples.

    Before and after are the residual stream: `x` and `x + a` for attention, `x + a` and `x + a + m` for the MLP, or
    `x` and `x + m` in parallel blocks, the inputs of one layer and the next for the layer. Where the arithmetic
    overflows there is NaN.

    Args:
        size: windows in a batch.
        folder: where states of a streamed model lie that are too many for memory.
        variant: what is off, and changed.

    Raises:
        Cancelled: `progress` raised it.
    """
    run = LayerwisePass(loaded, corpus.calibration.ids, size, folder)
    seen = (_see_by_layers if loaded.spec.stream else _see)(run, progress, variant)
    samples = np.concatenate([each.found() for each in seen], axis=1)[:, : len(run.ids)]
    return [Importance("entropy", unit, each.mean(0), each) for unit, each in zip(UNITS, samples, strict=True)]


def _see(run: LayerwisePass, progress: Progress, variant: Mask | Variant) -> list[_Increases]:
    """Observe the whole model, batch by batch."""
    seen: list[_Increases] = []
    for rows, ids in run.batches():
        progress(rows.start, len(run.ids), "Measuring entropy")
        seen.append(_Increases(run.loaded.n_layers, run.loaded.parallel))
        with run.wrappers.observe(seen[-1], variant):
            run.loaded.model.base_model(input_ids=ids, use_cache=False)
    progress(len(run.ids), len(run.ids), "Measuring entropy")
    return seen


def _see_by_layers(run: LayerwisePass, progress: Progress, variant: Mask | Variant) -> list[_Increases]:
    """Observe a streamed model, all windows going through a layer before the next one."""
    layers, states = run.loaded.n_layers, run.embed()
    seen = [_Increases(layers, run.loaded.parallel) for _ in run.batches()]
    for layer in range(layers):
        progress(layer, layers, "Measuring entropy, layer by layer")
        for _, each in zip(run.show(layer, states, seen, variant, states), seen, strict=True):
            each.stream = torch.empty(0)
    progress(layers, layers, "Measuring entropy, layer by layer")
    return seen


class _Increases:
    """Observes one batch of windows, and keeps of each layer how much entropy it and its sites add."""

    def __init__(self, n_layers: int, parallel: bool) -> None:
        self.parallel = parallel
        self.rows: list[list[Tensor]] = [[] for _ in range(n_layers)]
        self.stream = self.entropy = self.reached = torch.empty(0)
        self.added: dict[str, Tensor] = {}

    def enter(self, layer: int, hidden: _Hidden) -> None:
        self.entropy = self.reached = find_entropy(hidden)
        self.stream = hidden.clone()  # some layers add in place
        self.added = dict.fromkeys(PARTS, torch.zeros_like(self.entropy))

    def update(self, site: Site, update: _Hidden) -> None:
        after = self.stream + update
        entropy = find_entropy(after)
        self.added[site.part] = entropy - self.reached
        if not self.parallel:
            self.stream, self.reached = after, entropy

    def leave(self, layer: int, hidden: _Hidden) -> None:
        self.rows[layer] = [find_entropy(hidden) - self.entropy, *(self.added[part] for part in PARTS)]

    def found(self) -> Float64[np.ndarray, "3 batch layers"]:
        """Return what layers, attentions and MLPs add in each window."""
        layers = [torch.stack(row).cpu() for row in self.rows]
        return torch.stack(layers, dim=-1).numpy()


def find_entropy(hidden: _Hidden) -> Float64[Tensor, " batch"]:
    """Entropy of hidden states of each window, in nats; NaN where one is not finite."""
    values = hidden.double()
    least, largest = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    spread = torch.where(largest > least, largest - least, 1.0)
    bins = ((values - least) / spread * BINS).floor().clamp(0, BINS - 1)
    entropy = torch.zeros(len(values), dtype=torch.float64, device=values.device)
    for number in range(BINS):
        shares = (bins == number).double().mean(1)
        entropy += torch.special.entr(shares).sum(-1)
    return torch.where(values.isfinite().flatten(1).all(1), entropy, torch.nan)


def _take(setting: MeasureSetting) -> list[Importance]:
    loaded, corpus, progress, folder = setting.loaded, setting.corpus, setting.progress, setting.store.folder
    return setting.stored(
        "entropy", lambda size: measure_entropy(loaded, corpus, progress, size, folder, setting.variant)
    )


ENTROPY = Measure(
    "entropy", "Entropy increase", "entropy", "EntroDrop, arXiv:2504.03794",
    r"$H(h + f) - H(h)$, h the residual stream before it, f what it adds, H the entropy of binned hidden states",
    _take, "hidden states", "one pass", unit_of="nats",
)  # fmt: skip
