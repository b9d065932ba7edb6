"""The program leans on what Streamlit documents: nothing is imported from inside of it, no private name is read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
FILES = [
    REPOSITORY / "app.py",
    *(path for room in ("explorer", "ui", "pages") for path in REPOSITORY.glob(f"{room}/**/*.py")),
]


def find_private(tree: ast.AST) -> list[str]:
    """Names of Streamlit's inside that a file uses."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "streamlit":
            found.append(f"{node.module}.{', '.join(alias.name for alias in node.names)}")
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.startswith("streamlit.")]
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            root = node.value
            while isinstance(root, (ast.Attribute, ast.Call)):
                root = root.func if isinstance(root, ast.Call) else root.value
            if isinstance(root, ast.Name) and root.id == "st":
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_of_streamlits_inside_is_used(path: Path) -> None:
    assert find_private(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line", ["from streamlit.runtime import Runtime", "import streamlit.web", "st.runtime.get()._session", "st._main"]
)
def test_a_private_name_is_found(line: str) -> None:
    assert find_private(ast.parse(line))
