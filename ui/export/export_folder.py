"""Where exports from the page go: below one folder, under a name. Imports no Streamlit."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from explorer.errors import ExportError
from explorer.paths import expand_user

_REMEDY = "Give a name such as smaller-model, or a/smaller-model"


def get_exports() -> Path:
    """Return the folder that all exports from the page go below: EXPLORER_EXPORTS, or `exports`."""
    return expand_user(os.environ.get("EXPLORER_EXPORTS") or "exports")


def place_export(name: str, exports: Path) -> Path:
    """Return the folder below `exports` that a name stands for, followed through symbolic links.

    Raises:
        ExportError: no name, or one that leads elsewhere.
    """
    name = name.strip()
    path = PurePosixPath(name)
    if not name or not path.parts:
        raise ExportError("The export has no name", "an empty field", _REMEDY)
    if path.is_absolute() or name.startswith("~"):
        raise ExportError("Exports go below one folder", f"{name[:80]!r} is a path of its own", _REMEDY)
    if any(part.startswith(".") for part in path.parts):
        raise ExportError("The name leads elsewhere or is hidden", repr(name[:80]), _REMEDY)
    if "\\" in name or not name.isprintable() or len(name) > 400 or max(map(_count_bytes, path.parts)) > 200:
        raise ExportError("The name cannot be a folder's", repr(name[:80]), _REMEDY)
    try:
        inside = (exports / path).resolve().is_relative_to(exports.resolve())
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise ExportError("The name leads elsewhere", f"{name[:80]!r} is a link out of the folder", _REMEDY)
    return exports / path


def _count_bytes(part: str) -> int:
    return len(part.encode(errors="surrogatepass"))
