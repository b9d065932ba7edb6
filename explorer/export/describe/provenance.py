"""A checkpoint's files -> where it came from: revision, licence, and the name to build upon."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from explorer.checkpoints import Checkpoint
from explorer.reading import Unreadable, read_text

_FRONT = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_WORD = re.compile(r"[\w.+-]{1,64}")


@dataclass(frozen=True)
class Provenance:
    """Where a checkpoint came from.

    Args:
        base: hub id, where it was loaded from the hub.
        revision: the hub's commit.
        license: its identifier, from the source's card or GGUF file.
    """

    base: str | None
    revision: str | None
    license: str | None


def find_provenance(checkpoint: Checkpoint) -> Provenance:
    """Read where a checkpoint came from, as far as its files tell."""
    folder = checkpoint.folder
    hub = folder.parent.name == "snapshots" and _HUB_NAME.fullmatch(checkpoint.name) is not None
    return Provenance(
        checkpoint.name if hub else None,
        folder.name if hub else None,
        _read_license(folder / "README.md") or _license_of_gguf(checkpoint.dequantized_from),
    )


def _read_license(card: Path) -> str | None:
    """Return the licence that a card's front matter names."""
    try:
        front = _FRONT.match(read_text(card))
    except Unreadable:
        return None
    named = re.search(r"^license:\s*[\"']?([\w.+-]{1,64})", front[1], re.MULTILINE) if front else None
    return named[1] if named else None


def _license_of_gguf(path: Path | None) -> str | None:
    if path is None:
        return None
    from explorer.export.gguf.model import read_gguf  # whoever loaded a GGUF file has its reader

    field = read_gguf(path).fields.get("general.license")
    value = field.value if field else None
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None
