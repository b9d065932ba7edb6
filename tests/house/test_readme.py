"""The README and the documents tell the truth: their Python runs, docs/files.md is the house."""

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
FILES = (REPOSITORY / "docs" / "files.md").read_text(encoding="utf-8")
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.real_model
def test_the_python_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    cache = Path(os.environ.get("EXPLORER_CACHE", REPOSITORY / "cache")).resolve()
    (cache / "models").mkdir(parents=True, exist_ok=True)
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


def _rooms() -> dict[str, str]:
    """The sections of docs/files.md that have a sign: the room, and its first line."""
    return dict(re.findall(r"^## ([\w/]+/)\n\n(?!- )(.+)$", FILES, re.MULTILINE))


def test_every_room_has_its_section() -> None:
    rooms = {
        f"{root}/{p.parent.name}/" for root in ("explorer", "ui") for p in (REPOSITORY / root).glob("*/__init__.py")
    }
    assert len(rooms) > 20
    assert set(_rooms()) == rooms


def test_the_sign_of_a_section_is_that_on_the_door() -> None:
    for room, line in _rooms().items():
        sign = ast.get_docstring(ast.parse((REPOSITORY / room / "__init__.py").read_text(encoding="utf-8")))
        assert sign is not None
        assert sign.splitlines()[0] == line


def test_every_file_has_its_line() -> None:
    listed: set[str] = set()
    folder = ""
    for line in FILES.splitlines():
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
