"""A checkpoint of 340 MB, streamed in a process that grows by less than half of it: the resident model's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.large_checkpoints import work_apart, write_llama

MOST = 150 * 10**6


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is the Linux kernel's")
def test_a_model_is_measured_scored_and_pruned_in_less_memory_than_it_has(tmp_path: Path) -> None:
    small = write_llama(tmp_path / "small", 2, 64, 128, torch.float32)
    large = write_llama(tmp_path / "large", 12, 768, 2048, torch.float32)
    streamed = work_apart(large, small, tmp_path / "streamed", stream=True)
    resident = work_apart(large, small, tmp_path / "resident", stream=False)
    assert streamed["weights"] > 300 * 10**6
    assert max(streamed["private_bytes"], streamed["resident_bytes"]) < MOST
    assert resident["resident_bytes"] > streamed["weights"]
    assert streamed["bytes_read"] <= 1.1 * streamed["weights"]
    assert (streamed["nll"], streamed["influence"]) == (resident["nll"], resident["influence"])
    masked, reloaded = streamed["proof"]
    assert masked == reloaded
