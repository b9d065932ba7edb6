"""The Docs page: its documents are there, their links stay on the page, their pictures are taken out."""

from __future__ import annotations

import re

import pytest

from tests.support.tiny_models import REPOSITORY
from ui.docs.document import DOCUMENTS, split_pictures


def test_links_and_pictures_are_told_apart() -> None:
    text = (
        "See [glossary.md](glossary.md) and [a](method.md#text), [log](log.md).\n\n![Curves](curves-layer.png)\n\nEnd"
    )
    before, picture, after = split_pictures(text)
    assert before == "See [glossary.md](?page=glossary) and [a](?page=method#text), log.\n\n"
    assert picture == ("curves-layer.png", "Curves")
    assert str(after).strip() == "End"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_leads_nowhere_else(name: str) -> None:
    for part in split_pictures((REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8")):
        if isinstance(part, tuple):
            assert (REPOSITORY / "docs" / part[0]).is_file()
        else:
            assert "![" not in part
            assert all(to.startswith(("https://", "?page=")) for to in re.findall(r"\]\(([^)]*)\)", part))
