"""A page that shows a word of the trade says what it means: words in its texts against its calls of `define`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from explorer.measures import MEASURES
from tests.support.tiny_models import REPOSITORY
from ui.analyse.importances import MEANINGS
from ui.parts.definitions import DEFINITIONS, define

#: How words are written where it is not as in the glossary, in one or several.
_FORMS = {
    "decode speed": "decoding speed",
    "accuracy (`acc`)": "accuracy",
    "KV cache bytes": "KV( cache)?",
    "FLOPs per token": "FLOPs",
    "dropped, zeroed": "dropped|zeroed",
    "top-1 agreement": "top-1( agreement)?",
}
#: Words that a page has from elsewhere: the names of units and criteria, numbers in words.
_FROM_ELSEWHERE = {"plans": {"logit L2", "nat", "site"}}
#: The frame is around every page.
_FRAME = "frame"
PAGES = ("model_choice", "explore", "analyse", "plans", "heal", "sparsity", "evaluate", "compare", "export")


def _trees(page: str) -> Iterator[ast.AST]:
    for path in [REPOSITORY / "pages" / f"{page}.py", *(REPOSITORY / "ui" / page).glob("*.py")]:
        if path.is_file():
            yield ast.parse(path.read_text(encoding="utf-8"))


def _texts(tree: ast.AST) -> Iterator[str]:
    """Yield the texts of a file that are shown: with a space or a capital in them; no docstring, key or `define`."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Constant(value=str(text)) if " " in text.strip() or text[:1].isupper():
                yield text
            case ast.Expr(value=ast.Constant()) | ast.keyword(arg="key") | ast.Call(func=ast.Name(id="define")):
                pass
            case _:
                yield from _texts(node)


def _shown(page: str) -> set[str]:
    texts = [text for tree in _trees(page) for text in _texts(tree)]
    return _FROM_ELSEWHERE.get(page, set()) | {
        word
        for word in DEFINITIONS
        if any(re.search(rf"\b({_FORMS.get(word, word)})s?\b", text, re.IGNORECASE) for text in texts)
    }


def _defined(page: str) -> set[str]:
    return {
        argument.value
        for tree in _trees(page)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "define"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }


@pytest.mark.parametrize("page", PAGES)
def test_a_page_defines_the_words_that_it_shows(page: str) -> None:
    shown = _shown(page)
    assert len(shown) > 3
    assert shown <= _defined(page) | _defined(_FRAME)


def test_the_frame_defines_the_number_that_every_page_shows() -> None:
    assert "perplexity" in _shown(_FRAME) & _defined(_FRAME)


def test_definitions_are_of_words_of_the_glossary_and_are_met() -> None:
    glossary = (REPOSITORY / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert set(DEFINITIONS) <= set(re.findall(r"^\| ([^|]+) \|", glossary, re.MULTILINE))
    assert set().union(*map(_defined, (*PAGES, _FRAME))) == set(DEFINITIONS)


def test_measures_are_defined() -> None:
    assert set(MEANINGS) == {name for name, measure in MEASURES.items() if measure.kind != "attention"}


def test_a_definition_is_a_sentence() -> None:
    assert define("site", "KL").startswith("Site: the attention or the MLP of one layer. KL: Kullback-Leibler ")
