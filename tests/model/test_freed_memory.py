"""Freed memory is handed out again without new pages."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from explorer.model.freed_memory import keep_freed_memory

keep_freed_memory()

targets = torch.zeros(127, dtype=torch.long)

def work():
    hidden = torch.zeros(4, 128, 576)
    logits = torch.zeros(127, 49152, dtype=torch.bfloat16)
    torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    return hidden

for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _count_faults() -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the thresholds are glibc's")
def test_tensors_that_come_and_go_need_no_new_pages() -> None:
    of_one_call = (2 + 4 + 4) * 127 * 49152 // resource.getpagesize()
    assert _count_faults() < of_one_call
