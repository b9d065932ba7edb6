"""The house: imports go downward, and only hooks.py touches a module's forward."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_models import REPOSITORY

TIERS = (
    ("explorer.errors", "explorer.interrupts", "explorer.guarding", "explorer.paths", "explorer.reading",
     "explorer.schema", "explorer.jsonable", "explorer.keys", "explorer.stopwatch", "explorer.masks",
     "explorer.records", "explorer.races", "explorer.methods", "explorer.measures", "explorer.rankings",
     "explorer.coalitions", "explorer.interactions", "explorer.search"),
    ("explorer.anatomy", "explorer.chat", "explorer.encoding", "explorer.texts", "explorer.corpus", "explorer.store",
     "explorer.costs", "explorer.memory",
     "explorer.hub", "explorer.batches", "explorer.budgets", "explorer.plans", "explorer.devices", "explorer.weights",
     "explorer.checkpoints", "explorer.configs", "explorer.caches", "explorer.gguf", "explorer.hub_datasets",
     "explorer.leftovers", "explorer.modes", "explorer.partials", "explorer.eviction"),
    ("explorer.hooks", "explorer.dissection", "explorer.selfcheck", "explorer.loading", "explorer.checks"),
    ("explorer.prefixes", "explorer.descent", "explorer.similarity", "explorer.scoring", "explorer.generation",
     "explorer.decode_speed", "explorer.divergence", "explorer.gradients", "explorer.linear", "explorer.attention"),
    ("explorer.importance",),
    ("explorer.export", "explorer.planning", "explorer.curves", "explorer.ladders"),
    ("explorer.charts", "explorer.cli", "explorer.__main__"),
    ("ui",),
    ("pages", "app"),
)  # fmt: skip
FILES = sorted(
    path
    for root in ("explorer", "ui", "pages", "app.py")
    for path in ([REPOSITORY / root] if root.endswith(".py") else (REPOSITORY / root).rglob("*.py"))
    if path.is_file()
)
EXPLORER = [path for path in FILES if path.is_relative_to(REPOSITORY / "explorer")]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def _tier(module: str) -> int | None:
    for number, names in enumerate(TIERS):
        if any(module == name or module.startswith(name + ".") for name in names):
            return number
    return None


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


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_go_downward(path: Path) -> None:
    module = _module(path)
    if module == "explorer":
        assert not [name for name in _imports(path) if name.startswith("explorer")]
        return
    own = _tier(module)
    assert own is not None, f"{module} has no tier"
    for name in _imports(path):
        if name.split(".")[0] in ("explorer", "ui", "pages", "app"):
            tier = _tier(name)
            assert tier is not None, f"{module} imports {name}, which has no tier"
            assert tier <= own, f"{module} imports {name}, which is above it"


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


@pytest.mark.parametrize("name", ["errors", "masks", "records", "corpus", "store"])
def test_the_nouns_do_not_know_torch(name: str) -> None:
    assert not [n for n in _imports(REPOSITORY / f"explorer/{name}.py") if n.split(".")[0] in ("torch", "transformers")]


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


def test_hooks_is_seen_to_touch_forward() -> None:
    assert _touching(REPOSITORY / "explorer/hooks.py")


@pytest.mark.parametrize("path", [p for p in FILES if _module(p) != "explorer.hooks"], ids=_name)
def test_only_hooks_touches_forward(path: Path) -> None:
    assert _touching(path) == []
