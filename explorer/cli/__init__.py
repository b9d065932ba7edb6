"""python -m explorer VERB: the flow for those who script it. JSON on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

import typer

from explorer.cli import exporting, looking, measuring, planning, scoring  # noqa: F401  # each adds its verbs
from explorer.cli.verb import app
from explorer.errors import ExplorerError

#: Options that take all the words up to the next option.
_MANY = ("--texts", "--plans")


def spread(words: Sequence[str]) -> list[str]:
    """Write `--texts A B` as `--texts A --texts B`, which is what the parser takes."""
    spread_out: list[str] = []
    many = ""
    for word, after in zip(words, [*words[1:], "--"], strict=False):
        if word.startswith("-"):
            many = word if word in _MANY else ""
            spread_out += [] if many and not after.startswith("-") else [word]
        else:
            spread_out += [many, word] if many else [word]
    return spread_out


def main() -> NoReturn:
    """Run the command line. Bad input exits with 2 and one line on stderr; an interrupt with 130."""
    try:
        app(spread(sys.argv[1:]), standalone_mode=False)
    except (ExplorerError, typer.TyperException) as error:
        words = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        print(f"error: {' '.join(words.split())}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; what was scored is stored", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
