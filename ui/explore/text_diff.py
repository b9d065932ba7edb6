"""Two texts -> their words, those that differ marked."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

Pieces = list[tuple[str, bool]]  # text, and whether the other text has something else there


def mark_differences(left: str, right: str) -> tuple[Pieces, Pieces]:
    """Cut two texts into runs of words that they share and runs that they do not; joined, each is its text again."""
    words = [re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", text) for text in (left, right)]
    matcher = SequenceMatcher(None, [w.strip() for w in words[0]], [w.strip() for w in words[1]], autojunk=False)
    marked: tuple[Pieces, Pieces] = ([], [])
    for kind, *ends in matcher.get_opcodes():
        for side, (start, end) in enumerate((ends[:2], ends[2:])):
            if run := "".join(words[side][start:end]):
                marked[side].append((run, kind != "equal"))
    return marked
