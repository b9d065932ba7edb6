"""Planning the export of a checkpoint of 140 GB: from headers, in little memory."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from explorer.export import plan_export
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from tests.support.large_checkpoints import load_on_meta, write_holes

MASK = Mask.parse("20-30,a40,m50-55")
_ATTENTION = 2 * 8192 * 8192 + 2 * 1024 * 8192  # parameters
_MLP = 3 * 28672 * 8192


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A Llama of 70 billion parameters, of which there are headers and holes."""
    return load_on_meta(write_holes(tmp_path_factory.mktemp("large") / "model"))


def _count_read() -> int:
    """Bytes that this process has read."""
    found = re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())
    return int(found[1]) if found else 0


@pytest.mark.parametrize(
    ("format", "left"),
    [
        ("transformers-zeroed", 69 * (_ATTENTION + _MLP + 2 * 8192)),
        ("deci", 69 * (_ATTENTION + _MLP + 2 * 8192) - _ATTENTION - 6 * _MLP - 7 * 8192),
        ("pruned-remote-code", 69 * (_ATTENTION + _MLP + 2 * 8192) - _ATTENTION - 6 * _MLP),
    ],
)
def test_a_large_export_is_planned_from_headers_alone(large: LoadedModel, format: str, left: int) -> None:
    files = large.checkpoint.weights
    assert len(files) == 30
    assert sum(path.stat().st_size for path in files) > 140e9
    before = _count_read()
    planned = plan_export(large, MASK, format)
    assert planned.bytes == 2 * (left + 2 * 128256 * 8192 + 8192)
    assert _count_read() - before < 1e6


def test_a_large_export_is_planned_in_little_memory(large: LoadedModel) -> None:
    tracemalloc.start()
    try:
        plan_export(large, MASK, "deci")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 200e6
