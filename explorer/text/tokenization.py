"""text -> Corpus: token windows for calibration and, never overlapping them, held-out ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer.errors import TextError
from explorer.paths import expand_user
from explorer.reading import read_json
from explorer.text.chat_template import ChatTemplate
from explorer.text.encoding import check_ids, decode, encode, find_ends
from explorer.text.sources import find_text
from explorer.text.windows import Corpus, Windows

_FIRST = 256  # characters that tell how many ids a tokenizer makes of them
_SLACK = 64  # ids beyond those that are used: the last ones may be those of a word cut short
_MOST_TOKENS = 10_000_000  # of a split
_LARGEST = 32 << 20  # bytes of a file of windows


def tokenize(
    text: str,
    tokenizer: Any,
    *,
    tokens: int,
    window: int,
    bos: str = "auto",
    positions: int | None = None,
    vocabulary: int | None = None,
) -> Corpus:
    """Cut a text into windows of ids for each split.

    A text of one piece is dealt out window by window, even ones to calibration and odd ones to held-out, so
    that both see all of it and a longer corpus contains a shorter one. Texts that come with splits keep them.

    Args:
        text: a name, file, `hf:` data set or `tokens:` file.
        tokenizer: a transformers tokenizer.
        tokens: ids in each split; rounded down to windows. A short text gives what it has.
        window: ids in a window, BOS included.
        bos: `auto` (as the tokenizer does), `always` or `never`.
        positions: the longest window that the model takes.
        vocabulary: rows of the model's embedding: ids below this exist.

    Raises:
        TextError: the text is missing, empty or shorter than one window a split, a window does not fit, or the model
            has no row for a token.
    """
    if text.startswith("tokens:"):
        windows = _read_tokens(expand_user(text.removeprefix("tokens:")), tokenizer, vocabulary)
        check_window(windows.ids.shape[1], windows.ids.size, positions)
        return Corpus(text, windows, windows, bool((windows.ids[:, 0] == tokenizer.bos_token_id).all()))
    check_window(window, tokens, positions)
    has_bos = _adds_bos(tokenizer, bos)
    count, cut = tokens // window, _Cutter(text, tokenizer, window, has_bos, vocabulary)
    with ChatTemplate(tokenizer) as template:
        source = find_text(text, template.write)
        if source.held_out:
            return Corpus(text, cut(source.calibration(), count, 1), cut(source.held_out(), count, 1), has_bos)
        both = cut(source.calibration(), 2 * count, 2)
    pairs = len(both) // 2 * 2
    calibration, held_out = (Windows(both.ids[start:pairs:2], both.text_bytes[start:pairs:2]) for start in (0, 1))
    return Corpus(text, calibration, held_out, has_bos)


def check_window(window: int, tokens: int, positions: int | None) -> None:
    """Raise TextError if not one window can be made, or a window is beyond the positions, or there are too many ids."""
    if tokens > _MOST_TOKENS:
        raise TextError("More tokens than can be held", f"{tokens}", f"Ask for at most {_MOST_TOKENS}")
    if window < 2:
        raise TextError("The window predicts nothing", f"{window} ids", "Use a window of 2 ids or more")
    if positions is not None and window > positions:
        raise TextError(
            "The window is beyond the model's positions", f"{window} > {positions}", f"Use at most {positions} ids"
        )
    if tokens < window:
        raise TextError(
            "Not one window fits",
            f"{tokens} tokens for a window of {window}",
            "Ask for more tokens or a shorter window",
        )


def _adds_bos(tokenizer: Any, bos: str) -> bool:
    if bos not in ("auto", "always", "never"):
        raise TextError("Unknown choice for BOS", repr(bos), "Use auto, always or never")
    if bos == "always" and tokenizer.bos_token_id is None:
        raise TextError("The tokenizer has no BOS token", "bos_token is not set", "Use --bos auto or never")
    if bos == "auto":
        first = encode(tokenizer, "a").input_ids[:1]
        return tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
    return bos == "always"


@dataclass(frozen=True)
class _Cutter:
    """A text in pieces -> windows."""

    name: str
    tokenizer: Any
    window: int
    bos: bool
    vocabulary: int | None

    def __call__(self, pieces: Iterator[str], count: int, at_least: int) -> Windows:
        step = self.window - self.bos
        text, encoded = self._read(pieces, count * step)
        ids: list[int] = list(encoded.input_ids)
        if not text.strip():
            raise TextError("The text is empty", self.name, "Give a text with words in it")
        found = min(count, len(ids) // step)
        if found < at_least:
            each = f"{len(ids)} tokens where {at_least * step} make one window a split"
            raise TextError("The text is shorter than one window", each, "Use a longer text or a shorter window")
        check_ids(self.tokenizer, [*ids[: found * step], *([self.tokenizer.bos_token_id] * self.bos)], self.vocabulary)
        rows = np.asarray(ids[: found * step], np.int64).reshape(found, step)
        starts, ends = self._find_borders(text, encoded, found, step)
        text_bytes = [len(text[a:b].encode()) for a, b in zip(starts, ends, strict=True)]
        if self.bos:
            rows = np.concatenate([np.full((found, 1), self.tokenizer.bos_token_id), rows], axis=1)
        return Windows(rows, np.asarray(text_bytes, np.int64))

    def _read(self, pieces: Iterator[str], needed: int) -> tuple[str, Any]:
        """Read until there are enough ids, or no more text: a little, then as much as the ids so far ask for."""
        text, limit = "", _FIRST
        while True:
            read = len(text)
            text += _take(pieces, limit - read)
            encoded = encode(
                self.tokenizer, text[:limit], add_special_tokens=False, return_offsets_mapping=self.tokenizer.is_fast
            )
            enough, all_of_it = len(encoded.input_ids) > needed + _SLACK, len(text) < limit
            if enough or all_of_it:
                return text[:limit], encoded
            wanted = (needed + _SLACK) * limit * 5 // (4 * max(len(encoded.input_ids), 1))
            limit = min(max(wanted, 2 * limit), 64 * limit)

    def _find_borders(self, text: str, encoded: Any, found: int, step: int) -> tuple[list[int], list[int]]:
        """Return where the characters of each window's predicted ids start and end."""
        first = [row * step + (not self.bos) for row in range(found)]
        last = [(row + 1) * step for row in range(found)]
        if self.tokenizer.is_fast:
            ends = [0, *(end for _, end in encoded.offset_mapping)]
            return [ends[at] for at in first], [ends[at] for at in last]
        after = sorted({*first, *last} - {0})
        known = dict(zip(after, find_ends(self.tokenizer, text, encoded.input_ids, after), strict=True)) | {0: 0}
        return [known[at] for at in first], [known[at] for at in last]


def _take(pieces: Iterator[str], characters: int) -> str:
    """Take pieces until there are this many characters."""
    taken: list[str] = []
    while characters > 0 and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        characters -= len(piece)
    return "".join(taken).encode(errors="replace").decode()


def _read_tokens(path: Path, tokenizer: Any, vocabulary: int | None) -> Windows:
    """Read windows of ids exactly as they are."""
    what, remedy = "Not a list of equally long windows of ids", "Write a list of windows, each a list of as many ids"
    rows = read_json(path, TextError, "Cannot read the windows", remedy, _LARGEST)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise TextError(what, path.name, remedy)
    if len(sizes := {len(row) for row in rows}) > 1:
        raise TextError(what, f"{path.name} has windows of {min(sizes)} and of {max(sizes)} ids", remedy)
    for row in rows:
        if odd := [entry for entry in row if type(entry) is not int]:
            raise TextError(what, f"{path.name} has the entry {odd[0]!r}", remedy)
    for row in rows:
        check_ids(tokenizer, row, vocabulary)
    text_bytes = [len(decode(tokenizer, row[1:]).encode(errors="replace")) for row in rows]
    return Windows(np.asarray(rows, np.int64), np.asarray(text_bytes, np.int64))
