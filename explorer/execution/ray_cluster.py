"""A Ray cluster: one that is there, or one on this machine, which ends with this process however that ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from explorer.errors import first_line
from explorer.execution.executor_spec import ExecutorError, ExecutorSpec

_OBJECT_BYTES = 2**28  # of memory that a cluster on this machine alone keeps what is sent in

#: Reads until this process has closed the pipe, be it by its end; then kills what it is given and is Ray's still.
_WATCH = """
trap "" INT TERM HUP
read -r _
sleep 3
for each; do grep -qa ^ray:: "/proc/$each/cmdline" && kill -9 "$each"; done
"""


class Cluster:
    """A connection to a cluster, or a cluster on this machine.

    Args:
        spec: where it is, and how many workers there will be.
        threads: of each.

    Raises:
        ExecutorError: it cannot be reached.
    """

    def __init__(self, spec: ExecutorSpec, threads: int) -> None:
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        self._watch: subprocess.Popen[bytes] | None = None
        address = spec.address or os.environ.get("RAY_ADDRESS") or "local"
        options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
        if address == "local":
            cpus = spec.workers * threads or None
            options |= {"include_dashboard": False, "num_cpus": cpus, "object_store_memory": _OBJECT_BYTES}
        try:
            with _hearing_signals_later():
                ray.init(address, **options)
                if address == "local":
                    self._watch = _watch_over(_list_children(_find_raylet()))
        except (OSError, RuntimeError, ValueError, ImportError, RayError) as error:
            found = f"{address} ({first_line(error)})"
            raise ExecutorError("Cannot reach the cluster", found, "See with 'ray status' whether it runs") from None

    def close(self) -> None:
        """Leave the cluster; end it where it was started here."""
        if self._watch is not None:
            self._watch.kill()
            self._watch.communicate()
        ray.shutdown()


def _find_raylet() -> int:
    """Return the process of the cluster on this machine that started all others but the first ones."""
    node: Any = ray._private.worker._global_node
    return node.all_processes["raylet"][0].process.pid


def _list_children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _watch_over(processes: list[int]) -> subprocess.Popen[bytes]:
    """Have processes end soon after this one: Ray's agents look for a cluster that was killed for a minute."""
    command = ["/bin/sh", "-c", _WATCH, "sh", *map(str, processes)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=False
    )


@contextmanager
def _hearing_signals_later() -> Iterator[None]:
    """Put off signals to the end of the block, and what they do back: half a cluster stays, and Ray hears SIGTERM."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number in before:
        signal.signal(number, lambda received, _: heard.append(received))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        signal.raise_signal(heard[0])
