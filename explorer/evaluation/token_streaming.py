"""Tokens as they are written -> the text so far, or the moments that they came at."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from transformers.generation.streamers import BaseStreamer

from explorer.text import decode

#: Told the text so far after every token. It may raise `Cancelled` to stop.
Listener = Callable[[str], None]

_SPLIT = "\ufffd"  # what a character is decoded to of which some bytes are missing
_MOST_PENDING = 16  # tokens; a character has no more than four bytes


class _NewTokens(BaseStreamer):
    """Passes over the prompt, which comes first."""

    def __init__(self) -> None:
        self._began = False

    def put(self, value: torch.Tensor) -> None:
        """Take the prompt (1, length), then each token (1,)."""
        if self._began:
            self.take(value.tolist())
        self._began = True

    def take(self, ids: list[int]) -> None:
        """Take new tokens."""
        raise NotImplementedError

    def end(self) -> None:
        """Nothing more comes."""


class TextSoFar(_NewTokens):
    """Tells a listener the text after every token.

    Decoded are the tokens since the text last ended with a whole character, and those of the piece before, since what
    a token is decoded to can depend on the one before it. A character whose bytes are parted is told as U+FFFD until
    its last token comes. Where the tokenizer decodes all the tokens to something else, that is told at the end.
    """

    def __init__(self, tokenizer: Any, listener: Listener) -> None:
        super().__init__()
        self._tokenizer, self._listener = tokenizer, listener
        self._ids: list[int] = []
        self._before = self._settled = 0  # where the piece before begins, and where it ends
        self._text = self._told = ""  # of the ids up to there, and of all

    def take(self, ids: list[int]) -> None:
        """Tell the text with the new tokens."""
        self._ids += ids
        known, found = self._decode(self._before, self._settled), self._decode(self._before, None)
        new, pending = found[len(known) :], len(self._ids) - self._settled
        self._told = self._text + new
        if new and (not new.endswith(_SPLIT) or pending >= _MOST_PENDING):
            self._before, self._settled, self._text = self._settled, len(self._ids), self._told
        self._listener(self._told)

    def end(self) -> None:
        """Tell the whole text if it is another than what was told."""
        if (whole := self._decode(0, None)) != self._told:
            self._listener(whole)

    def _decode(self, start: int, end: int | None) -> str:
        return decode(self._tokenizer, self._ids[start:end], skip_special_tokens=True)


class TokenTimes(_NewTokens):
    """Notes when each token came."""

    def __init__(self) -> None:
        super().__init__()
        self._first = self._last = 0.0
        self._count = 0

    def take(self, ids: list[int]) -> None:
        """Note the moment."""
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self._count += len(ids)

    @property
    def rate(self) -> float | None:
        """Tokens a second after the first; None if there are not two."""
        return (self._count - 1) / (self._last - self._first) if self._count > 1 else None
