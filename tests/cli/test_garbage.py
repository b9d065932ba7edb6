"""Cycles of garbage are not searched for while the command line starts, and are again when it works on."""

from __future__ import annotations

import subprocess
import sys

from tests.support.tiny_models import REPOSITORY

SCRIPT = """
import gc, time
from explorer.garbage import put_off_collecting
class Cycle:
    def __init__(self): self.itself = self
    def __del__(self): print("found")
put_off_collecting(0.3)
Cycle()
[[] for _ in range(100_000)], print("put off")
while not gc.isenabled(): time.sleep(0.01)
kept = [[] for _ in range(100_000)]
print("searched")
Cycle()
"""


def test_cycles_are_searched_for_again_after_a_while_and_not_at_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["put off", "found", "searched", ""]


def test_the_command_line_starts_without() -> None:
    script = "import sys, gc; sys.argv = ['explorer', '--help']; from explorer.__main__ import run\n"
    script += "try: run()\nfinally: print(gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.endswith("False\n")
