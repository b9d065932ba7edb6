"""The Makefile's set-up: which torch it fetches, from where, and what it says meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.tiny_models import REPOSITORY

#: A Python that makes an environment of itself, writes down what pip is asked for, and refuses some of it.
STAND_IN = """#!/bin/sh
[ "$2" = venv ] && mkdir -p .venv/bin && cp "$0" .venv/bin/python
[ "$2" = pip ] && echo "$@" >> asked
case "$*" in *"$REFUSED"*) exit 1 ;; esac
"""


def _set_up(folder: Path, *words: str, refused: str = "nothing") -> tuple[list[str], list[str]]:
    """Run the set-up; return the lines that it says, and what pip was asked for."""
    for name in ("Makefile", "requirements.txt"):
        shutil.copy(REPOSITORY / name, folder / name)
    (folder / "python").write_text(STAND_IN)
    (folder / "python").chmod(0o755)
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    environment = {**os.environ, "PATH": f"{tools}:/usr/bin:/bin", "REFUSED": refused}
    done = subprocess.run(
        ["make", "-s", "PYTHON=./python", *words, ".venv/.installed"],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), (folder / "asked").read_text().splitlines()


def _find_torch(asked: list[str]) -> list[str]:
    return [line.removeprefix("-m pip install ") for line in asked if line.endswith("torch==2.13.0")]


def test_the_build_that_is_named_is_fetched_from_its_index(tmp_path: Path) -> None:
    said, asked = _set_up(tmp_path, "TORCH=cu130")
    (torch,) = _find_torch(asked)
    assert torch.endswith("--index-url https://download.pytorch.org/whl/cu130 torch==2.13.0")
    assert [line[:11] for line in said] == [f"Step {number} of 4" for number in (1, 2, 3, 4)]
    assert "cu130" in said[1]


@pytest.mark.skipif(bool(shutil.which("nvidia-smi")) or Path("/proc/driver/nvidia").exists(), reason="a GPU is there")
def test_without_a_gpu_it_is_the_build_for_the_cpu(tmp_path: Path) -> None:
    assert "/whl/cpu " in _find_torch(_set_up(tmp_path)[1])[0]


def test_with_a_gpu_it_is_the_build_for_cuda(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi").write_text("#!/bin/sh\n")
    (tools / "nvidia-smi").chmod(0o755)
    assert "/whl/cu130 " in _find_torch(_set_up(tmp_path)[1])[0]


def test_an_index_that_does_not_answer_is_told_and_replaced(tmp_path: Path) -> None:
    said, asked = _set_up(tmp_path, "TORCH=cpu", refused="--index-url")
    first, second = _find_torch(asked)
    assert "--index-url" in first
    assert second == "torch==2.13.0"
    (line,) = [line for line in said if "does not answer" in line]
    assert line.startswith("https://download.pytorch.org/whl/cpu does not answer: torch comes from pip's own index")
