"""What the command line says, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.tiny_models import REPOSITORY


def ask(options: Mapping[str, Any], *words: str) -> Any:
    """Return what a verb answers, with nothing stored."""
    named = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "explorer", *words, "--json", "--no-cache", *named]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout)


def score_by_command_line(options: Mapping[str, Any], masks: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return `score`'s entry of each mask, and of `none`, with nothing stored."""
    asked = [option for mask in masks for option in ("--mask", mask)]
    return {score["mask"]: score for score in ask(options, "score", *asked)["scores"]}
