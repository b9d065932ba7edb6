"""The README tells the truth: its Python runs, its tree is the house."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import explorer
from tests.support.tiny_models import REPOSITORY, WINDOW, Tiny

PYTHON = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.real_model
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


def test_the_python_page_runs(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page's program, on a tiny model and short windows."""
    code = "".join(re.findall(r"```python\n(.*?)```", PYTHON, re.DOTALL))
    for long, short in (
        ("SmolLM2-135M-Instruct", str(tiny.folder("llama"))),
        ("tokens=2048, window=256", f"tokens={4 * WINDOW}, window={WINDOW}"),
    ):
        assert long in code
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/python.md", "exec"), {"__name__": "page"})
    assert capsys.readouterr().out.startswith("4 layers; 4 calibration and 4 held-out windows\n")
    assert (tmp_path / "pruned" / "config.json").is_file()


@pytest.mark.parametrize("page", [README, PYTHON], ids=["README.md", "python.md"])
def test_the_pages_use_the_names_of_the_package_alone(page: str) -> None:
    code = "".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL))
    named: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            assert node.module in ("explorer", "pathlib")
            named |= {alias.name for alias in node.names} if node.module == "explorer" else set()
    assert named <= set(dir(explorer))
    assert page == README or named == set(dir(explorer))


def _tree() -> dict[str, str]:
    tree = README.split("## The tree")[1]
    return dict(re.findall(r"^ {4}((?:explorer|ui|pages|app)[\w/]*(?:\.py|/)) +(.+)$", tree, re.MULTILINE))


def test_the_tree_has_a_line_for_every_room() -> None:
    rooms = {
        f"{root}/{p.parent.name}/" for root in ("explorer", "ui") for p in (REPOSITORY / root).glob("*/__init__.py")
    }
    assert len(rooms) > 20
    assert set(_tree()) == rooms | {"app.py", "pages/"}


def test_a_line_of_the_tree_is_the_sign_on_the_door() -> None:
    for room, line in _tree().items():
        if (door := REPOSITORY / room / "__init__.py").is_file():
            sign = ast.get_docstring(ast.parse(door.read_text(encoding="utf-8")))
            assert sign is not None
            assert sign.splitlines()[0] == line


def test_every_file_has_its_line() -> None:
    listed: set[str] = set()
    folder = ""
    for line in (REPOSITORY / "docs" / "files.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            folder = line[3:]
        elif line.startswith("- `"):
            names, what = line[2:].split(": ", 1)
            assert what
            listed |= {folder + name.strip("`") for name in names.split(", ")}
    files = {
        path for root in ("explorer", "ui", "pages") for path in (REPOSITORY / root).rglob("*.*") if path.is_file()
    }
    named = {str(path.relative_to(REPOSITORY)) for path in files if path.suffix not in (".pyc", ".pyi")}
    assert listed == {name for name in named if Path(name).name not in ("__init__.py", "py.typed")}


def test_the_glossary_has_each_word_once() -> None:
    text = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = [line.split(" | ")[0].removeprefix("| ").lower() for line in text.splitlines() if line.startswith("| ")]
    words = [word for word in words if word != "word"]
    assert len(words) > 50
    assert len(words) == len(set(words))
