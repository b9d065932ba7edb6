"""LoadedModel, Corpus, [Mask] -> how far the final hidden state of the last token turns, as what a search lowers."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from explorer.deltas import Variant
from explorer.evaluation import run_prefix_tree
from explorer.masks import NONE, Mask
from explorer.measures.criterion import Criterion
from explorer.model import LoadedModel, ModelWrappers, pad_batch, slice_rows
from explorer.progress import Progress
from explorer.storage import Store, make_key
from explorer.text import Corpus


def measure_last_token_cosine(
    loaded: LoadedModel, corpus: Corpus, masks: list[Mask | Variant], store: Store, progress: Progress, rows: slice
) -> np.ndarray:
    """1 - cos(y, y') of each mask on each of some calibration windows: (masks, windows) float64.

    y is the hidden state of the window's last token after the final norm, in the unpruned model, y' the same under the
    mask: the similarity by which Gromov et al. (arXiv:2403.17887) choose a block, taken at the model's end. Infinite
    where the arithmetic overflowed. What is stored is not computed again.

    Raises:
        MaskError: a mask names a layer that the model lacks.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; what was finished stays stored.
    """
    windows = corpus.calibration[rows]
    asked = list(dict.fromkeys(mask.checked(loaded.n_layers) for mask in masks))

    def work(size: int) -> np.ndarray:
        context = make_key("last-token-cosine", context=loaded.numerics_key(size))  # beside the nats of other contexts
        known = {mask: store.nll(context, windows.digests, mask.key) for mask in asked}
        for part in slice_rows(len(windows), size):
            digests = windows.digests[part]
            missing = [mask for mask in asked if any(digest not in known[mask] for digest in digests)]
            if not missing:
                continue
            progress(part.start, len(windows), f"Comparing {len(asked)} mask{'s' * (len(asked) > 1)}")
            found = _compare_batch(loaded.wrappers, pad_batch(windows.ids[part], size, loaded.device), missing)
            for mask, losses in found.items():
                values = dict(zip(digests, losses[: len(digests)].tolist(), strict=True))
                known[mask].update(values)
                sound = [(digest, mask.key, loss) for digest, loss in values.items() if math.isfinite(loss)]
                store.add_nll(context, sound)
        return np.array([[known[mask][digest] for digest in windows.digests] for mask in masks])

    return loaded.batch_shape.run(work, corpus.window)


@torch.inference_mode()
def _compare_batch(wrappers: ModelWrappers, ids: Tensor, masks: list[Mask | Variant]) -> dict[Mask | Variant, Tensor]:
    """Return for each mask how far it turns the last token's state in each window, (batch,) float64."""
    everything = list(dict.fromkeys([NONE, *masks]))
    states = {
        mask: wrappers.finish(hidden)[:, -1].double().cpu()
        for group, hidden in run_prefix_tree(wrappers, wrappers.layer_inputs(ids), everything, None)
        for mask in group
    }
    return {mask: _turn(states[NONE], states[mask]) for mask in masks}


def _turn(before: Tensor, after: Tensor) -> Tensor:
    """1 - cos of rows (batch, width), as half the square of the distance of unit vectors: exact near 0."""
    unit = [torch.nn.functional.normalize(each, dim=-1, eps=1e-300) for each in (before, after)]
    found = (unit[0] - unit[1]).square().sum(-1) / 2
    return torch.where(found.isfinite(), found, math.inf)


LAST_TOKEN_COSINE = Criterion(
    "last-token-cosine", "Turn of the last token's final state", "1 - cos",
    "the similarity of Gromov et al., arXiv:2403.17887, at the model's end", measure_last_token_cosine,
)  # fmt: skip
