"""LoadedModel, Corpus -> [Importance]: how much entropy a layer or site adds to the hidden states (EntroDrop)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from explorer.masks import PARTS, Site
from explorer.measures.importance import Importance
from explorer.measures.measure_type import UNITS, Measure, Setting
from explorer.model import LoadedModel, pad_batch, slice_rows
from explorer.progress import Progress, unreported
from explorer.text import Corpus

BINS = 20  # of each dimension, as in the authors' code


@torch.inference_mode()
def measure_entropy(
    loaded: LoadedModel, corpus: Corpus, progress: Progress = unreported, size: int = 1
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

    Raises:
        Cancelled: `progress` raised it.
    """
    windows, parts = corpus.calibration, []
    for rows in slice_rows(len(windows), size):
        progress(rows.start, len(windows), "Measuring entropy")
        seen = _Increases(loaded.n_layers, loaded.parallel)
        with loaded.wrappers.observe(seen):
            loaded.model.base_model(input_ids=pad_batch(windows.ids[rows], size, loaded.device), use_cache=False)
        parts.append(seen.found()[:, : rows.stop - rows.start])
    progress(len(windows), len(windows), "Measuring entropy")
    samples = np.concatenate(parts, axis=1)
    return [Importance("entropy", unit, each.mean(0), each) for unit, each in zip(UNITS, samples, strict=True)]


class _Increases:
    """Observes one batch of windows, and keeps of each layer how much entropy it and its sites add."""

    def __init__(self, n_layers: int, parallel: bool) -> None:
        self.parallel = parallel
        self.rows: list[list[Tensor]] = [[] for _ in range(n_layers)]
        self.stream = self.entropy = self.reached = torch.empty(0)
        self.added: dict[str, Tensor] = {}

    def enter(self, layer: int, hidden: Tensor) -> None:
        self.entropy = self.reached = find_entropy(hidden)
        self.stream = hidden.clone()  # some layers add in place
        self.added = dict.fromkeys(PARTS, torch.zeros_like(self.entropy))

    def update(self, site: Site, update: Tensor) -> None:
        after = self.stream + update
        entropy = find_entropy(after)
        self.added[site.part] = entropy - self.reached
        if not self.parallel:
            self.stream, self.reached = after, entropy

    def leave(self, layer: int, hidden: Tensor) -> None:
        self.rows[layer] = [find_entropy(hidden) - self.entropy, *(self.added[part] for part in PARTS)]

    def found(self) -> np.ndarray:
        """Return what layers, attentions and MLPs add in each window, (3, batch, L) float64."""
        layers = [torch.stack(row).cpu() for row in self.rows]
        return torch.stack(layers, dim=-1).numpy()


def find_entropy(hidden: Tensor) -> Tensor:
    """Entropy of hidden states (batch, tokens, width), in nats, (batch,) float64; NaN where one is not finite."""
    values = hidden.double()
    least, largest = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    spread = torch.where(largest > least, largest - least, 1.0)
    bins = ((values - least) / spread * BINS).floor().clamp(0, BINS - 1)
    entropy = torch.zeros(len(values), dtype=torch.float64, device=values.device)
    for number in range(BINS):
        shares = (bins == number).double().mean(1)
        entropy += torch.special.entr(shares).sum(-1)
    return torch.where(values.isfinite().flatten(1).all(1), entropy, torch.nan)


def _take(setting: Setting) -> list[Importance]:
    loaded, corpus, progress = setting.loaded, setting.corpus, setting.progress
    return setting.stored("entropy", lambda size: measure_entropy(loaded, corpus, progress, size))


ENTROPY = Measure(
    "entropy", "Entropy increase", "entropy", "EntroDrop, arXiv:2504.03794",
    _take, "hidden states", "one pass", unit_of="nats",
)  # fmt: skip
