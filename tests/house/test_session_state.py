"""Streamlit's session state has the values of widgets, each under its key; all else is in ui/session.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.support.tiny_models import REPOSITORY

OWNER = REPOSITORY / "ui" / "session.py"
FILES = [REPOSITORY / "app.py", *REPOSITORY.glob("pages/*.py"), *REPOSITORY.glob("ui/**/*.py")]

#: Widgets whose values are read or set, by key.
WIDGETS = {
    "address", "calibration_size", "calibration_text", "choice dtype", "choice model", "choice quantize", "choice text",
    "comparison", "mask_text", "measure", "measures", "modifier", "pins_keeper", "plan_method", "plan_unit", "strip",
    "work_list",
}  # fmt: skip


def find_strange(tree: ast.AST) -> list[str]:
    """What a file does with the session state, but for `st.session_state[KEY]` and `.get(KEY)` of a widget's key."""
    taken: dict[int, ast.expr] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=state, slice=key):
                taken[id(state)] = key
            case ast.Call(func=ast.Attribute(value=state, attr="get"), args=[key, *_]):
                taken[id(state)] = key
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr="session_state"):
                key = taken.get(id(node))
                if key is None or (isinstance(key, ast.Constant) and key.value not in WIDGETS):
                    found.append(f"line {node.lineno}: {ast.unparse(key or node)}")
            case ast.ImportFrom(names=names) if any(alias.name == "session_state" for alias in names):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize(
    "path", [path for path in FILES if path != OWNER], ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_only_the_values_of_widgets_have_keys(path: Path) -> None:
    assert find_strange(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "st.session_state.view = view",
        "st.session_state['view'] = view",
        "st.session_state.setdefault('view', view)",
        "st.session_state.pop('view', None)",
        "st.session_state.get('view')",
        "state = st.session_state",
        "'view' in st.session_state",
        "del st.session_state['view']",
        "from streamlit import session_state",
    ],
)
def test_another_use_is_found(line: str) -> None:
    assert find_strange(ast.parse(line))


@pytest.mark.parametrize(
    "line", ["st.session_state['strip']['off']", "st.session_state[key] = value", "st.session_state.get('measure')"]
)
def test_a_widget_is_none(line: str) -> None:
    assert find_strange(ast.parse(line)) == []
