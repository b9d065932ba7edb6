"""Text -> token ids and back, by a tokenizer that may fail in any way, for a model that may lack some of the ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from explorer.errors import TextError
from explorer.guarding import guarded

_REMEDY = "Check the model's tokenizer files, or use another text"


def encode(tokenizer: Any, text: str, **options: Any) -> Any:
    """Return what a tokenizer makes of a text, as it gives it. Raises TextError, whatever the tokenizer raises."""
    with guarded("The tokenizer fails on the text", _REMEDY, TextError):
        encoded = tokenizer(text, verbose=False, **options)
        encoded.input_ids  # noqa: B018  # as it is used
        return encoded


def decode(tokenizer: Any, ids: Any, **options: Any) -> str:
    """Return the text of some ids. Raises TextError, whatever the tokenizer raises."""
    with guarded("The tokenizer fails on its own ids", _REMEDY, TextError):
        return tokenizer.decode(ids, **options)


def check_ids(tokenizer: Any, ids: Iterable[int], vocabulary: int | None) -> None:
    """Raise TextError at an id that the model's embedding has no row for.

    Args:
        vocabulary: rows of the embedding, where they are known.
    """
    beyond = [i for i in ids if not 0 <= i < (vocabulary or 2**63)]
    if beyond:
        with guarded("The tokenizer fails on its own ids", _REMEDY, TextError):
            token = tokenizer.convert_ids_to_tokens(beyond[0])
        raise TextError(
            "A token is beyond the model's embedding",
            f"{token!r} is id {beyond[0]}, and the embedding has rows 0 to {(vocabulary or 0) - 1}",
            "Resize the embedding as the tokenizer was, or use a text without that token",
        )


def find_ends(tokenizer: Any, text: str, ids: Sequence[int], after: Sequence[int]) -> list[int]:
    """Tell how far a text is used up after so many of its ids, by a tokenizer that does not give offsets.

    The ids up to each place, from the place before the last one on, are decoded and looked for in the text where they
    begin. Of a character whose bytes are parted nothing is decoded: a place within it is taken for its start. Where
    the decoded text is not what the text has (unknown words, other spaces), the text is shared out by the lengths of
    what was decoded.

    Args:
        text: what the ids were made of, all of it.
        after: numbers of ids, ascending.

    Returns:
        For each of these the characters that they stand for.
    """
    at, found = [0, *after], [0]
    for number, end in enumerate(after, 1):
        start = max(0, number - 2)
        place = _follow(text, found[start], _decode(tokenizer, ids[at[start] : end]))
        if place is None:
            parts = zip(at, [*after, len(ids)], strict=True)
            return _share_out(text, [len(_decode(tokenizer, ids[start:end])) for start, end in parts])
        found.append(place)
    return found[1:]


def _decode(tokenizer: Any, ids: Sequence[int]) -> str:
    return decode(tokenizer, ids, clean_up_tokenization_spaces=False)


_PASSED_OVER = 9  # characters, at the most: spaces that a tokenizer drops, a character whose bytes are parted


def _follow(text: str, place: int, part: str) -> int | None:
    """Return where a part ends that begins at a place in the text or a little after it; None if it is not there."""
    core = part.strip("\ufffd \t\r\n")
    for start in range(place, place + _PASSED_OVER):
        if text.startswith(core, start):
            end = start + len(core) if core else place
            trailing = len(part) - len(part.rstrip())
            while trailing and text[end : end + 1].isspace():
                end, trailing = end + 1, trailing - 1
            return end
    return None


def _share_out(text: str, lengths: Sequence[int]) -> list[int]:
    total, shares = sum(lengths) or 1, list[int]()
    done = 0
    for length in lengths[:-1]:
        done += length
        shares.append(len(text) * done // total)
    return shares
