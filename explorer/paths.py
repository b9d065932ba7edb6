"""A path as it was typed -> a path."""

from __future__ import annotations

from pathlib import Path

#: The folder in the cache for weights that are on the disk for as long as their model lives.
OFFLOADED = "offload"

#: The folder in the cache for trainings: their checkpoints, and what was recorded on the way.
TRAINING = "training"


def expand_user(name: str | Path) -> Path:
    """Put the user's home in the place of `~`; `~name` stays as it is where there is no such user."""
    path = Path(name)
    try:
        return path.expanduser()
    except RuntimeError:
        return path
