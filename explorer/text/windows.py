"""A text as token windows: calibration to decide by, held-out to judge by. Knows no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Int, Int64

from explorer.errors import TextError

Split = Literal["calibration", "held-out"]


@dataclass(frozen=True)
class Windows:
    """Token windows of one split.

    Args:
        ids: BOS, if any, is in column 0.
        text_bytes: UTF-8 bytes of the text that columns 1.. stand for.
    """

    ids: Int[np.ndarray, "windows window"]
    text_bytes: Int64[np.ndarray, " windows"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice | list[int]) -> Windows:
        """Return some of the windows."""
        part = Windows(self.ids[rows], self.text_bytes[rows])
        chosen = self.digests[rows] if isinstance(rows, slice) else tuple(self.digests[row] for row in rows)
        part.__dict__["digests"] = chosen  # in the place of the cached property: worked out once for the whole
        return part

    @property
    def length(self) -> int:
        """Ids in a window."""
        return self.ids.shape[1]

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """A digest for each window's token ids, the key under which its nats are stored."""
        return tuple(hashlib.sha256(row.astype("<i8").tobytes()).hexdigest()[:32] for row in self.ids)

    @cached_property
    def digest(self) -> str:
        """A digest of every id."""
        return hashlib.sha256("/".join(["v1", *self.digests]).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Corpus:
    """A text as token windows: calibration to decide by, held-out to judge by.

    Args:
        name: of the text.
        calibration, held_out: its windows.
        bos: whether each begins with BOS.
        calibration_names: of the texts that the calibration windows are of, where they are of others.
    """

    name: str
    calibration: Windows
    held_out: Windows
    bos: bool
    calibration_names: tuple[str, ...] = ()

    def split(self, split: Split) -> Windows:
        """Return the windows of one split."""
        return self.calibration if split == "calibration" else self.held_out

    def decided_by(self, others: Sequence[Corpus], names: Sequence[str]) -> Corpus:
        """Return the same held-out windows with the calibration windows of other texts, one text after the other.

        Args:
            others: the texts.
            names: of them, with what each counts.

        Raises TextError: their windows are of another length.
        """
        parts = [other.calibration for other in others]
        if strange := [other for other in others if other.window != self.window]:
            found = f"{strange[0].window} ids in {strange[0].name}, {self.window} in {self.name}"
            raise TextError("The windows are of different lengths", found, "Use windows of one length")
        ids, text_bytes = (np.concatenate(each) for each in zip(*((p.ids, p.text_bytes) for p in parts), strict=True))
        return replace(self, calibration=Windows(ids, text_bytes), calibration_names=tuple(names))

    @property
    def calibration_name(self) -> str:
        """What the calibration windows are of."""
        return " + ".join(self.calibration_names) or self.name

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
