"""Freed memory is handed out again without new pages, and given back at rest."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from explorer.model.freed_memory import keep_freed_memory

def count_faults(rounds):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        blocks = [torch.ones(6 * 2**20) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
count_faults(4)
print(count_faults(%d))
"""
RETURNS = """
import psutil
import torch
from explorer.model.freed_memory import keep_freed_memory, return_freed_memory

def count():
    return psutil.Process().memory_info().rss

keep_freed_memory()
before = count()
kept, freed = zip(*((torch.ones(2**16), torch.ones(2**18)) for _ in range(200)))
del freed
holey = count()
return_freed_memory()
print(before, holey, count())
"""
OF_ONE_BLOCK = 4 * 6 * 2**20 // resource.getpagesize()
ROUNDS = 20


def _count_faults() -> int:
    done = subprocess.run([sys.executable, "-c", SCRIPT % ROUNDS], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_memory_between_tensors_that_stay_is_returned() -> None:
    done = subprocess.run([sys.executable, "-c", RETURNS], capture_output=True, text=True, check=True)
    before, holey, after = map(int, done.stdout.split())
    assert holey - before > 200 * 2**20  # 50 MiB that stay, 200 MiB between them
    assert after - before < 80 * 2**20


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the thresholds are glibc's")
def test_tensors_that_come_and_go_need_no_new_pages() -> None:
    faults = [_count_faults() for _ in range(3)]  # without it about every other process asks for pages in each round
    assert max(faults) < ROUNDS * OF_ONE_BLOCK / 4  # the heap may have to grow once more, by a block or two
