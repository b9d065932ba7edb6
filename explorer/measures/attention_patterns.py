"""LoadedModel, Corpus -> where each head looks: entropy of attention, and the share of the first token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from explorer.errors import UnsupportedModel
from explorer.measures.importance import Importance
from explorer.measures.measure_type import Measure, MeasureSetting
from explorer.model import LoadedModel, pad_batch
from explorer.progress import Progress, unreported
from explorer.storage import Store, make_key
from explorer.text import Corpus

_Weights = Float[Tensor, "batch heads window window"]
_Reduced = Float32[Tensor, "2 batch heads"]
_Heads = Float64[np.ndarray, "windows layers heads"]


@dataclass(frozen=True)
class Attention:
    """How each head attends, per window; tokens that see only themselves, the first ones, are left out.

    Args:
        entropy: entropy of a token's attention in nats, averaged over tokens.
        first: share of attention on the first token, averaged over tokens.
    """

    entropy: _Heads
    first: _Heads

    def importances(self) -> list[Importance]:
        """Both, averaged over heads."""
        named = (("attention-entropy", self.entropy), ("attention-sink", self.first))
        return [Importance(name, "attention", each.mean((0, 2)), each.mean(2)) for name, each in named]


def measure_attention(loaded: LoadedModel, corpus: Corpus, store: Store, progress: Progress = unreported) -> Attention:
    """Measure the attention of every head on the calibration windows. What is stored is returned at once.

    Explains why an attention is idle: a head that rests on the first token (an attention sink, Xiao et al.,
    arXiv:2309.17453) adds little; a flat one adds an average.

    Raises:
        UnsupportedModel: the model's attention does not give its weights, or the model is streamed.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; nothing is stored.
    """
    if loaded.spec.stream:
        found = "the weights would be read once a window"
        raise UnsupportedModel("Attention of a streamed model is not measured", found, "Load it without --stream")
    key = make_key("attention", context=loaded.numerics_key(1), corpus=corpus.digest)
    arrays = store.arrays(key)
    if arrays is None:
        arrays = loaded.batch_shape.run(lambda size: _measure(loaded, corpus, progress), corpus.window)
        store.add_arrays(key, arrays)
    return Attention(arrays["entropy"], arrays["first"])


@torch.inference_mode()
def _measure(loaded: LoadedModel, corpus: Corpus, progress: Progress) -> dict[str, _Heads]:
    windows = corpus.calibration
    found: list[Float32[Tensor, "2 batch layers heads"]] = []
    for row in range(len(windows)):  # a window's weights are large enough
        progress(row, len(windows), "Measuring attention")
        layers: dict[int, _Reduced] = {}

        def take(layer: int, weights: _Weights, layers: dict[int, _Reduced] = layers) -> None:
            layers[layer] = _reduce(weights).cpu()

        loaded.wrappers.attend(pad_batch(windows.ids[row : row + 1], 1, loaded.device), take)
        if len(layers) < loaded.n_layers:
            found_words = f"{len(layers)} of {loaded.n_layers} layers give them"
            raise UnsupportedModel(
                "The model does not give its attention weights", found_words, "Leave this measure out"
            )
        found.append(torch.stack([layers[layer] for layer in range(loaded.n_layers)], dim=2))
    progress(len(windows), len(windows), "Measuring attention")
    entropy, first = torch.cat(found, dim=1).double().numpy()
    return {"entropy": entropy, "first": first}


def _reduce(weights: _Weights) -> _Reduced:
    """Entropy and share of the first token, from attention weights of each token on those that it sees."""
    later = weights[:, :, 1:].float()
    entropy = torch.special.entr(later).sum(-1).mean(-1)
    return torch.stack([entropy, later[..., 0].mean(-1)])


def _take(setting: MeasureSetting) -> list[Importance]:
    return measure_attention(setting.loaded, setting.corpus, setting.store, setting.progress).importances()


_define = partial(
    Measure, kind="attention", function=_take, needs="attention weights", cost="one pass", units=("attention",),
    redundant=None,
)  # fmt: skip

ATTENTION_ENTROPY = _define(
    name="attention-entropy", label="Attention entropy", source="Clark et al., arXiv:1906.04341", unit_of="nats",
    formula=r"$-\sum_s a_{ts} \ln a_{ts}$, $a_{ts}$ the attention of token t on token s; mean over tokens and heads",
)  # fmt: skip
ATTENTION_SINK = _define(
    name="attention-sink", label="Attention on the first token", source="Xiao et al., arXiv:2309.17453",
    formula=r"$a_{t0}$, the attention of token t on the first one; mean over tokens and heads",
)  # fmt: skip
