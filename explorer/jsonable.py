"""Any value -> what JSON holds."""

from __future__ import annotations

import math
from typing import Any


def to_json(value: Any) -> Any:
    """Replace what JSON lacks: arrays by lists, numbers that are not finite by null."""
    if isinstance(value, dict):
        return {key: to_json(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_json(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
