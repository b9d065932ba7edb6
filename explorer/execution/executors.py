"""The name of an executor -> who else runs the model for the time of a block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from explorer.execution.executor_spec import ExecutorSpec
from explorer.model import LoadedModel

#: Nothing is sent to Ray's makers, and nothing written: neither what workers write nor that one died.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
}


@contextmanager
def spreading(loaded: LoadedModel, executor: str, cache: Path) -> Iterator[None]:
    """Have many variants on many windows run by others too, in the block; the numbers are the same to the last bit.

    Workers are started when they are first needed, and end with the block.

    Args:
        loaded: the model; each worker loads its own.
        executor: see `ExecutorSpec.parse`.
        cache: the folder where each worker's machine keeps converted models.

    Raises:
        ExecutorError: no such executor, or its workers fail.
        MissingExtra: Ray is not installed.
    """
    spec = ExecutorSpec.parse(executor)
    if spec is None:
        yield
        return
    for name, value in _QUIET.items():  # Ray reads them when it is imported
        os.environ.setdefault(name, value)
    from explorer.execution.ray_executor import RayExecutor

    loaded.executor = others = RayExecutor(loaded, spec, cache)
    try:
        yield
    finally:
        loaded.executor = None
        others.close()
