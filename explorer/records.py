"""The nouns that travel along the flow. All are frozen; none knows torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from explorer.masks.mask import NONE, Mask

Split = Literal["calibration", "held-out"]
Interval = tuple[float, float]

#: Bytes of a unit.
BYTES = {"kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

#: Told how far work is: (done, total, what). It may raise `Cancelled` to stop the work.
Progress = Callable[[int, int, str], None]


def unreported(done: int, total: int, what: str) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class ModelSpec:
    """What to load and how.

    Args:
        model: hub id, folder or GGUF file.
        dtype: `auto`, float32, bfloat16 or float16; what is not quantized is in it, and arithmetic.
        device: `auto`, `cpu`, `cuda`, `cuda:i`, or `map`: spread over all devices, see `devices`.
        trust_remote_code: run code that the model brings.
        quantize: `none`, or weights in `int8` or `nf4` by bitsandbytes.
    """

    model: str
    dtype: str = "auto"
    device: str = "auto"
    trust_remote_code: bool = False
    quantize: str = "none"


@dataclass(frozen=True)
class Windows:
    """Token windows of one split.

    Args:
        ids: (n_windows, window) int64; BOS, if any, is in column 0.
        text_bytes: (n_windows,) int64, UTF-8 bytes of the text that columns 1.. stand for.
    """

    ids: np.ndarray
    text_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> Windows:
        """Return some of the windows."""
        return Windows(self.ids[rows], self.text_bytes[rows])

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """A digest for each window's token ids, the key under which its nats are stored."""
        return tuple(hashlib.sha256(row.astype("<i8").tobytes()).hexdigest()[:32] for row in self.ids)


@dataclass(frozen=True)
class Corpus:
    """A text as token windows: calibration to decide by, held-out to judge by."""

    name: str
    calibration: Windows
    held_out: Windows
    bos: bool

    def split(self, split: Split) -> Windows:
        """Return the windows of one split."""
        return self.calibration if split == "calibration" else self.held_out

    @property
    def window(self) -> int:
        """Ids in a window, BOS included; one fewer are predicted."""
        return self.calibration.ids.shape[1]

    @property
    def tokens(self) -> int:
        """Ids in the calibration split."""
        return self.calibration.ids.size

    @property
    def protocol(self) -> str:
        """How windows were made, in words."""
        return f"non-overlapping windows of {self.window}, {'BOS first' if self.bos else 'no BOS'}"

    @cached_property
    def digest(self) -> str:
        """A digest of every id in both splits."""
        parts = "/".join(["v1", *self.calibration.digests, "|", *self.held_out.digests])
        return hashlib.sha256(parts.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Overflow:
    """A forward pass whose numbers left the range of their dtype.

    Args:
        dtype: what the arithmetic is in.
        layer: the first one whose output is not finite; L where it is the head; None if that is not known.
        n_layers: L.
    """

    dtype: str
    layer: int | None
    n_layers: int

    def __str__(self) -> str:
        if self.layer is None:
            return f"overflow ({self.dtype})"
        where = "in the head" if self.layer == self.n_layers else f"from layer {self.layer}"
        return f"overflow ({self.dtype}, {where})"


@dataclass(frozen=True)
class Score:
    """What a mask costs on a split, beside the unpruned model on the same windows.

    Args:
        mask: the sites that were off.
        nats: (n_windows,) float64, summed negative log-likelihood of each window's predicted tokens; infinite where
            the arithmetic overflowed.
        base: (n_windows,) float64, the same for the unpruned model.
        tokens: predicted tokens in each window.
        text_bytes: (n_windows,) UTF-8 bytes behind the predicted tokens.
        overflow: where the mask's arithmetic overflowed, if it did on any window.
        base_overflow: the same for the unpruned model.
    """

    mask: Mask
    nats: np.ndarray
    base: np.ndarray
    tokens: int
    text_bytes: np.ndarray
    overflow: Overflow | None = None
    base_overflow: Overflow | None = None

    @property
    def unpruned(self) -> Score:
        """The score of the whole model on the same windows."""
        return replace(self, mask=NONE, nats=self.base, overflow=self.base_overflow)

    @property
    def n_tokens(self) -> int:
        """Predicted tokens in all windows."""
        return self.tokens * len(self.nats)

    @cached_property
    def total_nats(self) -> float:
        """Negative log-likelihood of all predicted tokens."""
        return math.fsum(self.nats)

    @property
    def perplexity(self) -> float:
        """exp(sum of nats / number of predicted tokens)."""
        return _exp(self.total_nats / self.n_tokens)

    @cached_property
    def perplexity_ci95(self) -> Interval | None:
        """95% t-interval of the mean nats over windows, through exp; None where there is none: see `t_interval`."""
        interval = t_interval(self.nats / self.tokens)
        return interval and (_exp(interval[0]), _exp(interval[1]))

    @property
    def bits_per_byte(self) -> float:
        """Bits needed for a byte of the text; comparable across tokenizers; NaN where the tokens stand for no text."""
        size = int(self.text_bytes.sum())
        return self.total_nats / math.log(2) / size if size else math.nan

    @cached_property
    def delta_nats_per_token(self) -> float:
        """Mean nats a token costs more than under the unpruned model."""
        if not np.isfinite(self.base).all():
            return math.nan
        return math.fsum(self.nats - self.base) / self.n_tokens

    @cached_property
    def delta_ci95(self) -> Interval | None:
        """95% t-interval of the difference, paired over windows; None where there is none: see `t_interval`."""
        if self.overflow or self.base_overflow:
            return None
        return t_interval((self.nats - self.base) / self.tokens)


@dataclass(frozen=True)
class Estimate:
    """A score on its way: the difference on some windows, on top of the unpruned model on all that are known.

    Args:
        score: of the windows scored so far.
        base: nats per token of the unpruned model.
        n_windows: windows that there will be.
    """

    score: Score
    base: float
    n_windows: int

    @property
    def perplexity(self) -> float:
        """exp(nats per token of the unpruned model + the difference so far)."""
        return _exp(self.base + self.score.delta_nats_per_token)

    @property
    def perplexity_ci95(self) -> Interval | None:
        """The interval of the difference so far, on top of the same base, through exp.

        None where none is known: what removes nothing differs by nothing, which says nothing of the windows to come.
        """
        interval = self.score.delta_ci95 if np.any(self.score.nats != self.score.base) else None
        return interval and (_exp(self.base + interval[0]), _exp(self.base + interval[1]))


def _exp(x: float) -> float:
    return math.exp(x) if x < 709 else math.inf


def t_interval(samples: np.ndarray) -> Interval | None:
    """95% t-interval of the mean of independent samples (n,); None with fewer than two, or with one not finite."""
    from scipy.special import stdtrit  # takes a fifth of a second to import

    n = len(samples)
    if n < 2 or not np.isfinite(samples).all():
        return None
    mean = float(samples.mean())
    half = float(stdtrit(n - 1, 0.975) * samples.std(ddof=1) / math.sqrt(n))
    return mean - half, mean + half


@dataclass(frozen=True)
class Redundancy:
    """Similarity of the residual stream along a model, per window; L layers, L+1 boundaries.

    Boundaries are the inputs of layers 0..L-1 and the output of layer L-1, before the final norm.

    Args:
        angular: token choice -> (n_windows, L+1, L+1), arccos(cos(x_i, x_j)) / pi in [0, 1].
        influence: unit (layer, attention, mlp) -> (n_windows, W, L), 1 - cos(before, after) of each token.
        sizes: (1 or 2, unit) -> (n_windows, W, L), L1 or L2 norm of the update over that of what it is added to.
        norms: (n_windows, W, L+1), L2 norm of the residual stream at each boundary.
        tokens: token ids measured.
        corpus: digest of the corpus.
        model: name of the model.
    """

    angular: dict[str, np.ndarray]
    influence: dict[str, np.ndarray]
    sizes: dict[tuple[int, str], np.ndarray]
    norms: np.ndarray
    tokens: int
    corpus: str
    model: str
    dtype: str
    text: str = ""

    @property
    def n_layers(self) -> int:
        """Layers of the measured model."""
        return self.norms.shape[-1] - 1

    def angular_distance(self, token: str) -> list[np.ndarray]:
        """Distances d(l, n) for a token choice (`last_token`, `mean`, `mean_without_first`).

        Row n-1 has L-n+1 values, column l: the distance between the inputs of layers l and l+n.
        """
        mean = self.angular[token].mean(axis=0)
        return [np.diagonal(mean, offset=n).copy() for n in range(1, self.n_layers + 1)]

    def best_starts(self, token: str) -> list[int | None]:
        """For each block size 1..L, the start of the block over which the residual stream turns least.

        None where no distance of that size is finite: the arithmetic overflowed.
        """
        rows = [np.where(np.isfinite(row), row, np.inf) for row in self.angular_distance(token)]
        return [int(row.argmin()) if np.isfinite(row).any() else None for row in rows]

    def block_influence(self, unit: str, without_first: bool = False) -> np.ndarray:
        """Mean 1 - cos over tokens, (L,); the first token of each window is left out on demand."""
        return self.influence[unit][:, 1 if without_first else 0 :].mean(axis=(0, 1))

    def residual_norms(self, without_first: bool = False) -> np.ndarray:
        """Mean L2 norm of the residual stream at each boundary, (L+1,)."""
        return self.norms[:, 1 if without_first else 0 :].mean(axis=(0, 1))


@dataclass(frozen=True)
class Costs:
    """What a model under a mask needs. Bytes are at the dtype it was loaded in."""

    parameters: int
    bytes: int
    kv_bytes_per_token: int
    flops_per_token: int

    def bytes_at(self, bits: int) -> float:
        """Bytes of the weights with so many bits for each, the scales of a quantization left out."""
        return self.parameters * bits / 8


@dataclass(frozen=True)
class Sample:
    """Text that a model wrote under a mask; the prompt's perplexity is None where it is a single token.

    With `overflow` the text ends where a logit was not finite: too large for the dtype.
    """

    prompt: str
    mask: Mask
    text: str
    token_ids: tuple[int, ...]
    seconds: float
    prompt_perplexity: float | None = None
    overflow: bool = False

    @property
    def repetition(self) -> float:
        """Share of the new runs of four tokens that were there before (seq-rep-4, arXiv:1908.04319)."""
        runs = [self.token_ids[i : i + 4] for i in range(len(self.token_ids) - 3)]
        return 1 - len(set(runs)) / len(runs) if runs else 0.0

    @property
    def tokens_per_second(self) -> float:
        """New tokens over wall time, prompt included."""
        return len(self.token_ids) / self.seconds if self.seconds else 0.0
