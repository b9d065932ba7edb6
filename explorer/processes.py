"""Several processes that train together, started by torchrun or `accelerate launch`: how many, and which this is."""

from __future__ import annotations

import os


def count_processes() -> int:
    """Return how many there are; 1 where this was not started as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tell whether this is the one that answers and writes files."""
    return os.environ.get("RANK", "0") == "0"


def find_local() -> int | None:
    """Return this one's number on its machine, which is that of its GPU; None where it is alone."""
    return int(os.environ.get("LOCAL_RANK", "0")) if count_processes() > 1 else None
