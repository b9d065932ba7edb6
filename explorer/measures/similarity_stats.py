"""What one pass over the residual stream recorded. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from explorer.masks import Mask, find_units


@dataclass(frozen=True)
class SimilarityStats:
    """Similarity of the residual stream along a model, per window; L layers, L+1 boundaries.

    Boundaries are the inputs of layers 0..L-1 and the output of layer L-1, before the final norm.

    Args:
        angular: token choice -> arccos(cos(x_i, x_j)) / pi in [0, 1].
        influence: unit (layer, attention, mlp) -> 1 - cos(before, after) of each token.
        sizes: (1 or 2, unit) -> L1 or L2 norm of the update over that of what it is added to.
        norms: L2 norm of the residual stream at each boundary.
        tokens: token ids measured.
        corpus: digest of the corpus.
        model: name of the model.
    """

    angular: dict[str, Float[np.ndarray, "windows boundaries boundaries"]]
    influence: dict[str, Float[np.ndarray, "windows window layers"]]
    sizes: dict[tuple[int, str], Float[np.ndarray, "windows window layers"]]
    norms: Float[np.ndarray, "windows window boundaries"]
    tokens: int
    corpus: str
    model: str
    dtype: str
    text: str = ""

    def blanked(self, mask: Mask) -> SimilarityStats:
        """Put NaN in the place of what is off, and of blocks that begin or end with a layer that is off."""
        gone = np.array([layer in mask.whole_layers for layer in range(self.n_layers)])
        blocks = np.pad(np.triu(gone[:, None] | gone[None, :]), ((0, 1), (1, 0)))  # first layer, last layer + 1
        angular = {token: np.where(blocks | blocks.T, np.nan, found) for token, found in self.angular.items()}
        off = {unit: [each <= mask for each in find_units(self.n_layers, unit)] for unit in self.influence}
        influence = {unit: np.where(off[unit], np.nan, found) for unit, found in self.influence.items()}
        sizes = {(power, unit): np.where(off[unit], np.nan, found) for (power, unit), found in self.sizes.items()}
        return replace(self, angular=angular, influence=influence, sizes=sizes)

    @property
    def n_layers(self) -> int:
        """Layers of the measured model."""
        return self.norms.shape[-1] - 1

    def angular_distance(self, token: str) -> list[Float[np.ndarray, " starts"]]:
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

    def block_influence(self, unit: str, without_first: bool = False) -> Float[np.ndarray, " layers"]:
        """Mean 1 - cos over tokens; the first token of each window is left out on demand."""
        return self.influence[unit][:, 1 if without_first else 0 :].mean(axis=(0, 1))

    def residual_norms(self, without_first: bool = False) -> Float[np.ndarray, " boundaries"]:
        """Mean L2 norm of the residual stream at each boundary."""
        return self.norms[:, 1 if without_first else 0 :].mean(axis=(0, 1))
