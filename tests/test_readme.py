"""The README tells the truth: its Python runs, its tree is the tree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.tiny_models import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_python_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    cache = Path(os.environ.get("EXPLORER_CACHE", REPOSITORY / "cache")).resolve()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "models").symlink_to(cache / "models")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    perplexity, difference = done.stdout.splitlines()
    assert 5 < float(perplexity) < 200
    assert float(difference) == 0
    assert (tmp_path / "pruned" / "model.safetensors").is_file()


def test_every_file_of_the_tree_is_there() -> None:
    tree = README.split("## The tree")[1]
    named = re.findall(r"^ {4}((?:explorer|ui|pages|app)[\w/]*(?:\.py|/))", tree, re.MULTILINE)
    assert len(named) > 25
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
    modules = {str(p.relative_to(REPOSITORY)) for p in (REPOSITORY / "explorer").glob("*.py")}
    assert modules - set(named) == {"explorer/__init__.py", "explorer/__main__.py"}
