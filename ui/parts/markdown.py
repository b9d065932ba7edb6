"""Text -> Markdown that shows it as it is: model names, paths and errors are not markup."""

from __future__ import annotations

import re


def escape_markdown(text: str) -> str:
    """Escape whatever Markdown, its colour and icon codes, or mathematics would read in a text."""
    return re.sub(r"([\\`*_{}\[\]()#+\-!|~$<>:&])", r"\\\1", text)
