"""text -> Corpus: token windows for calibration and, never overlapping them, held-out ones."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from explorer.errors import TextError
from explorer.records import Corpus, Windows
from explorer.texts import find_text, reading

_CHARACTERS_PER_TOKEN = 8  # more than any tokenizer needs on prose; reading goes on where it was too few

_MOST_TOKENS = 10_000_000  # of a split


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
        vocabulary: ids below this exist.

    Raises:
        TextError: the text is missing, empty or shorter than one window a split, or a window does not fit.
    """
    if text.startswith("tokens:"):
        windows = _read_tokens(Path(text.removeprefix("tokens:")), tokenizer, vocabulary)
        check_window(windows.ids.shape[1], windows.ids.size, positions)
        return Corpus(text, windows, windows, bool((windows.ids[:, 0] == tokenizer.bos_token_id).all()))
    check_window(window, tokens, positions)
    has_bos = _adds_bos(tokenizer, bos)
    source, count = find_text(text), tokens // window
    cut = _Cutter(text, tokenizer, window, has_bos)
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
        first = tokenizer("a").input_ids[:1]
        return tokenizer.bos_token_id is not None and first == [tokenizer.bos_token_id]
    return bos == "always"


@dataclass(frozen=True)
class _Cutter:
    """Documents -> windows. Documents are joined with a blank line, as the papers do."""

    name: str
    tokenizer: Any
    window: int
    bos: bool

    def __call__(self, documents: Iterable[str], count: int, at_least: int) -> Windows:
        step = self.window - self.bos
        text, ids, ends = "", list[int](), np.zeros(0, np.int64)
        pieces, limit = iter(documents), count * step * _CHARACTERS_PER_TOKEN
        read = -1
        while len(ids) <= count * step and read < len(text[:limit]):  # the last id may be that of a word cut short
            read = len(text[:limit])
            text += _take(pieces, limit - len(text), bool(text)).encode(errors="replace").decode()
            ids, ends = self._encode(text[:limit])
            limit *= 2
        if not text.strip():
            raise TextError("The text is empty", self.name, "Give a text with words in it")
        found = min(count, len(ids) // step)
        if found < at_least:
            each = f"{len(ids)} tokens where {at_least * step} make one window a split"
            raise TextError("The text is shorter than one window", each, "Use a longer text or a shorter window")
        rows = np.asarray(ids[: found * step], np.int64).reshape(found, step)
        first = np.arange(found) * step + (not self.bos)  # the first predicted token
        last = np.arange(1, found + 1) * step - 1
        starts = np.concatenate([[0], ends[:-1]])[first]
        text_bytes = [len(text[a:b].encode()) for a, b in zip(starts, ends[last], strict=True)]
        if self.bos:
            rows = np.concatenate([np.full((found, 1), self.tokenizer.bos_token_id), rows], axis=1)
        return Windows(rows, np.asarray(text_bytes, np.int64))

    def _encode(self, text: str) -> tuple[list[int], np.ndarray]:
        """Return ids and, for each, where its characters end in the text."""
        if not self.tokenizer.is_fast:
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            return ids, np.cumsum([len(self.tokenizer.decode([i])) for i in ids])
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return encoded.input_ids, np.asarray([end for _, end in encoded.offset_mapping], np.int64)


def _take(pieces: Iterator[str], characters: int, joined: bool) -> str:
    """Take documents until there are this many characters."""
    taken: list[str] = [""] if joined else []
    while characters > 0 and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        characters -= len(piece) + 2
    return "\n\n".join(taken)


def _read_tokens(path: Path, tokenizer: Any, vocabulary: int | None) -> Windows:
    """Read windows of ids exactly as they are."""
    what, remedy = "Not a list of equally long windows of ids", "Write a list of windows, each a list of as many ids"
    try:
        with reading(path):
            rows = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise TextError("Not a file of JSON", f"{path.name} ({error})", remedy) from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) for row in rows):
        raise TextError(what, path.name, remedy)
    if len({len(row) for row in rows}) > 1:
        raise TextError(what, f"{path.name} has windows of {sorted({len(row) for row in rows})} ids", remedy)
    entries = [entry for row in rows for entry in row]
    if odd := [entry for entry in entries if type(entry) is not int]:
        raise TextError(what, f"{path.name} has the entry {odd[0]!r}", remedy)
    if beyond := [entry for entry in entries if not 0 <= entry < (vocabulary or 2**63)]:
        raise TextError("A token id is beyond the vocabulary", f"{beyond[0]} of {vocabulary}", remedy)
    text_bytes = [len(tokenizer.decode(row[1:]).encode()) for row in rows]
    return Windows(np.asarray(rows, np.int64), np.asarray(text_bytes, np.int64))
