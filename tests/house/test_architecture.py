"""The house: imports go downward, and only wrappers.py and layer_surgery.py touch a module's forward."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny_models import REPOSITORY

#: A room may import from those before it, and from files that lie in no room.
ROOMS = (
    "explorer.masks",
    "explorer.deltas",
    "explorer.numerics",
    "explorer.storage",
    "explorer.checkpoints",
    "explorer.text",
    "explorer.model",
    "explorer.evaluation",
    "explorer.benchmarks",
    "explorer.measures",
    "explorer.modifiers",
    "explorer.sparsity",
    "explorer.recovery",
    "explorer.healing",
    "explorer.plans",
    "explorer.export",
    "explorer.execution",
    "explorer.charts",
    "explorer.verbs",
    "explorer.cli",
    "ui.serving",
    "ui.browser",
    "ui.parts",
    "ui.live",
    "ui.view",
    "ui.api",
    "ui.model_choice",
    "ui.frame",
    "ui.docs",
    "ui.explore",
    "ui.compare",
    "ui.analyse",
    "ui.plans",
    "ui.heal",
    "ui.sparsity",
    "ui.evaluate",
    "ui.export",
    "pages",
)
MOST_LINES = 300
FILES = sorted(
    path
    for root in ("explorer", "ui", "pages", "app.py")
    for path in ([REPOSITORY / root] if root.endswith(".py") else (REPOSITORY / root).rglob("*.py"))
    if path.is_file()
)
EXPLORER = [path for path in FILES if path.is_relative_to(REPOSITORY / "explorer")]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def _room(module: str) -> str | None:
    """The room that a module lies in; None for those that lie in none."""
    name = ".".join(module.split(".")[: 1 if module.startswith("pages") else 2])
    return name if name in ROOMS else None


def _is_module(name: str) -> bool:
    path = REPOSITORY.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if _is_module(inner) else str(node.module)


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_the_house_is_there() -> None:
    assert len(EXPLORER) > 15


def test_every_folder_is_a_room() -> None:
    folders = {f"{root}.{path.parent.name}" for root in ("explorer", "ui") for path in Path(root).glob("*/*.py")}
    assert folders == set(ROOMS) - {"pages"}


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_go_to_rooms_before(path: Path) -> None:
    room = _room(_module(path))
    if room is None:
        if path.parent.name == "explorer" and path.name != "__main__.py":
            assert not [name for name in _imports(path) if _room(name)]
        return
    for name in _imports(path):
        other = _room(name)
        if other and name.split(".")[0] in ("explorer", "ui", "pages"):
            assert ROOMS.index(other) <= ROOMS.index(room), f"{_module(path)} imports {name}, of a later room"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_rooms_are_entered_by_their_doors(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and (room := _room(node.module)):
            assert room == node.module or room == _room(_module(path)), f"{node.module} is inside of {room}"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_file_is_not_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_imports_have_no_circle() -> None:
    below = {
        _module(path): {name for name in _imports(path) if _is_module(name) and name != _module(path)} for path in FILES
    }
    while leaves := [module for module, names in below.items() if not names & below.keys()]:
        for module in leaves:
            del below[module]
    assert not below


@pytest.mark.parametrize("path", EXPLORER, ids=_name)
def test_the_library_does_not_know_the_dashboard(path: Path) -> None:
    assert not [name for name in _imports(path) if name.split(".")[0] in ("streamlit", "ui", "pages", "app")]


#: What whoever only reads results needs: imported in a process that has no torch.
WITHOUT_TORCH = (
    "masks.mask", "masks.units", "numerics.intervals", "numerics.racing", "storage.store", "checkpoints.spec",
    "checkpoints.gguf", "text.windows", "text.tokenization", "model.cost_model", "evaluation.scores",
    "evaluation.samples", "measures.similarity_stats", "measures.importance", "plans.plan", "errors", "progress",
)  # fmt: skip


def test_the_nouns_do_not_know_torch() -> None:
    wanted = ", ".join(f"explorer.{name}" for name in WITHOUT_TORCH)
    script = f"import {wanted}, sys; print(sorted({{'torch', 'transformers'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def _touches_forward(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr="forward", ctx=ast.Store() | ast.Del()):
            return True
        case ast.Subscript(slice=ast.Constant(value="forward"), ctx=ast.Store() | ast.Del()):
            return True
        case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[_, ast.Constant(value="forward"), *_]):
            return True
        case ast.Attribute(attr=attr):
            return attr.startswith("register_") and attr.endswith("hook")
    return False


def _touching(path: Path) -> list[int]:
    return [node.lineno for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if _touches_forward(node)]  # type: ignore[attr-defined]


#: Who may; wrappers.py does it through layer_surgery.py.
TOUCHING = ("explorer.model.wrappers", "explorer.model.layer_surgery")


def test_the_surgery_is_seen_to_touch_forward() -> None:
    assert _touching(REPOSITORY / "explorer/model/layer_surgery.py")


@pytest.mark.parametrize("path", [p for p in FILES if _module(p) not in TOUCHING], ids=_name)
def test_only_the_wrappers_touch_forward(path: Path) -> None:
    assert _touching(path) == []


def test_no_test_imports_a_test() -> None:
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        named = [name for name in _imports(path) if name.startswith("tests.") and ".test_" in name]
        assert not named, f"{_name(path)} imports {named[0]}"
