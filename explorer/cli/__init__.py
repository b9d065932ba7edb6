"""python -m explorer VERB: the flow for those who script it. JSON on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from explorer.cli import exporting, looking, measuring, scoring  # noqa: F401  # each adds its verbs
from explorer.cli.verb import app
from explorer.errors import ExplorerError


def main() -> NoReturn:
    """Run the command line. Bad input exits with 2 and one line on stderr; an interrupt with 130."""
    try:
        app(standalone_mode=False)
    except (ExplorerError, typer.TyperException) as error:
        words = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        print(f"error: {' '.join(words.split())}", file=sys.stderr)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted; what was scored is stored", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
