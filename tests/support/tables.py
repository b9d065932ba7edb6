"""Tables of the documentation, read for the tests that hold them true."""

from __future__ import annotations

import re

from tests.support.tiny_models import REPOSITORY


def table(head: str) -> list[str]:
    """The rows of the table of docs/cli.md that begins with a head."""
    text = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = re.search(re.escape(head) + r"\n\|[-|]+\|\n((?:\|.*\n)+)", text)
    assert rows is not None, head
    return rows[1].splitlines()
