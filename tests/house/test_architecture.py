"""The house: imports go downward, and only wrappers.py touches a module's forward."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.tiny_models import REPOSITORY

TIERS = (
    (
        "explorer.errors",
        "explorer.interrupts",
        "explorer.guarding",
        "explorer.paths",
        "explorer.reading",
        "explorer.checkpoints.config_schema",
        "explorer.jsonable",
        "explorer.storage.keys",
        "explorer.stopwatch",
        "explorer.masks.mask",
        "explorer.records",
        "explorer.numerics.racing",
        "explorer.plans.catalogue",
        "explorer.measures.importance",
        "explorer.numerics.rank_correlation",
        "explorer.measures.shapley",
        "explorer.measures.interactions",
        "explorer.plans.search",
    ),
    (
        "explorer.model.architecture",
        "explorer.text.chat_template",
        "explorer.text.encoding",
        "explorer.text.sources",
        "explorer.text.tokenize",
        "explorer.storage.store",
        "explorer.model.costs",
        "explorer.model.memory",
        "explorer.checkpoints.hub",
        "explorer.model.batch_shape",
        "explorer.plans.budgets",
        "explorer.plans.plan",
        "explorer.model.placement",
        "explorer.model.weights",
        "explorer.checkpoints.resolve",
        "explorer.model.config_only",
        "explorer.model.kv_cache",
        "explorer.checkpoints.gguf",
        "explorer.text.hub_datasets",
        "explorer.model.unused_tensors",
        "explorer.model.torch_modes",
        "explorer.storage.partial_files",
        "explorer.storage.eviction",
    ),
    (
        "explorer.model.wrappers",
        "explorer.model.dissection",
        "explorer.model.selfcheck",
        "explorer.model.loading",
        "explorer.model.preflight",
    ),
    (
        "explorer.evaluation.hidden_state_cache",
        "explorer.evaluation.prefix_tree",
        "explorer.measures.similarity",
        "explorer.evaluation.perplexity",
        "explorer.evaluation.generation",
        "explorer.evaluation.decode_speed",
        "explorer.evaluation.divergence",
        "explorer.measures.gradients",
        "explorer.measures.linear_approximation",
        "explorer.measures.attention_patterns",
    ),
    ("explorer.measures.measure",),
    ("explorer.export", "explorer.plans.make", "explorer.plans.curve", "explorer.plans.plan_scores"),
    ("explorer.charts", "explorer.cli", "explorer.__main__"),
    ("explorer.execution", "ui"),
    ("pages", "app"),
)
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
    if path.name == "__init__.py" and not list(_imports(path)):
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


@pytest.mark.parametrize("name", ["errors", "masks/mask", "records", "text/tokenize", "storage/store"])
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


def test_the_wrappers_are_seen_to_touch_forward() -> None:
    assert _touching(REPOSITORY / "explorer/model/wrappers.py")


@pytest.mark.parametrize("path", [p for p in FILES if _module(p) != "explorer.model.wrappers"], ids=_name)
def test_only_the_wrappers_touch_forward(path: Path) -> None:
    assert _touching(path) == []
