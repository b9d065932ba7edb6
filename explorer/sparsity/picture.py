"""A pruned matrix -> a picture of its zeros: shares in cells as many as a figure has room for, entries of a cutting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from explorer.deltas import Variant
from explorer.errors import ModifyError
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.sparsity.zeros import list_zeros_of_layer


@dataclass(frozen=True)
class ZerosPicture:
    """Where a matrix is zero.

    Args:
        layer, name: of the matrix; of experts in one parameter one lies below the other.
        columns: inputs.
        bits: of each output's row, 1 where it is zero, filled up to bytes.
        sparsity: what was asked for: a share, or N:M.
    """

    layer: int
    name: str
    columns: int
    bits: UInt8[np.ndarray, "rows bytes"]
    sparsity: str

    @property
    def rows(self) -> int:
        """Outputs."""
        return len(self.bits)

    def cut(self, row: int, column: int, size: int) -> Bool[np.ndarray, "outputs columns"]:
        """Return where the entries are zero, from one on as many rows and columns as there are, `size` at most."""
        found = np.unpackbits(self.bits[row : row + size], axis=1, count=self.columns)
        return found[:, column : column + size].astype(bool)

    def size_cell(self, most: int) -> tuple[int, int]:
        """Return the rows and columns of a cell, so that there are no more than `most` cells in each direction."""
        return -(-self.rows // most), -(-self.columns // most)

    def find_shares(self, most: int) -> Float64[np.ndarray, "rows columns"]:
        """Return the share of zeros in each cell; the last ones may be smaller."""
        down, across = self.size_cell(most)
        starts = np.arange(0, self.rows, down), np.arange(0, self.columns, across)
        rows = [
            np.unpackbits(self.bits[start : start + down], axis=1, count=self.columns).sum(0, dtype=np.int64)
            for start in starts[0]
        ]
        counts = np.add.reduceat(np.stack(rows), starts[1], axis=1)
        sizes = (np.diff([*each, end]) for each, end in zip(starts, (self.rows, self.columns), strict=True))
        return counts / np.multiply.outer(*sizes)


def take_picture(loaded: LoadedModel, variant: Mask | Variant, layer: int, name: str) -> ZerosPicture:
    """Look where a matrix of a variant is zero. Raises ModifyError: no modifier put zeros into it."""
    for found in list_zeros_of_layer(loaded, variant, layer):
        if found.linear.name == name:
            zeros = found.zeros.flatten(0, -2).cpu().numpy()
            return ZerosPicture(layer, name, zeros.shape[1], np.packbits(zeros, axis=1), str(found.sparsity))
    raise ModifyError("It has no zeros by a modifier", f"{name} of layer {layer}", "Name a matrix that got zeros")
