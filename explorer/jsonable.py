"""Any value -> what JSON holds."""

from __future__ import annotations

import math
from typing import Any


def jsonable(value: Any) -> Any:
    """Replace what JSON lacks: arrays by lists, numbers that are not finite by null."""
    if isinstance(value, dict):
        return {key: jsonable(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return jsonable(value.tolist())
    if isinstance(value, (list, tuple)):
        return [jsonable(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
