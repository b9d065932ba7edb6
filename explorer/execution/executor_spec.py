"""The name of an executor, read: `local`, `ray`, `ray://HEAD:10001`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from explorer.errors import ExplorerError
from explorer.extras import require

#: This thread alone.
LOCAL = "local"

_RAY = re.compile(r"(ray(?:://[^;\s]+)?)((?:;[^;]*)*)")
_OPTION = re.compile(r"(workers|gpus)=([1-9][0-9]{0,4})")


class ExecutorError(ExplorerError):
    """The executor is none, or its workers are."""


@dataclass(frozen=True)
class ExecutorSpec:
    """Workers by Ray.

    Args:
        address: of a cluster's head, `ray://HEAD:10001`; if empty RAY_ADDRESS, and without that this machine.
        workers: how many; as many as there is room for, if 0.
        gpus: of each; as many as the model is on here, if 0.
    """

    address: str = ""
    workers: int = 0
    gpus: int = 0

    @classmethod
    def parse(cls, text: str) -> ExecutorSpec | None:
        """Read `ray[://HEAD:PORT][;workers=N][;gpus=N]`; None for `local`.

        Raises:
            ExecutorError: no such executor.
            MissingExtra: Ray is not installed.
        """
        if text == LOCAL:
            return None
        match = _RAY.fullmatch(text)
        options = [_OPTION.fullmatch(option) for option in match[2].split(";")[1:]] if match else [None]
        if not match or not all(options):
            raise ExecutorError("Unknown executor", repr(text), "Use local, ray, ray;workers=2 or ray://HEAD:10001")
        require("ray")
        address = match[1] if "://" in match[1] else ""
        return cls(address, **{each[1]: int(each[2]) for each in options if each})
