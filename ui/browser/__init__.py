"""What runs in the browser: the components' scripts and styles."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def read(name: str) -> str:
    """Return one file."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def read_scripts(*names: str) -> str:
    """Join scripts into one module; they share their names, and the last one exports."""
    return "\n".join(read(f"{name}.js") for name in names)
