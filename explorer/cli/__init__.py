"""python -m explorer VERB: the flow for those who script it. JSON on stdout, progress and errors on stderr."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import NoReturn

import typer

from explorer import interrupts
from explorer.cli import cache, export, jobs, prepare, verb  # noqa: F401  # each adds its verbs
from explorer.cli.verb import app
from explorer.errors import ExplorerError, escape, shorten
from explorer.verbs import VERBS

for each in VERBS.values():
    verb.verb(each)

#: Options that are given once for each of their words.
_REPEATED = ("--texts", "--plans", "--modify", "--calibration")


def main() -> NoReturn:
    """Run the command line.

    Bad input exits with 2 and one line on stderr; Ctrl-C with 130 and SIGTERM with 143, and a line that says what is
    kept.
    """
    with interrupts.raised():
        code, line = _run(sys.argv[1:])
        if interrupts.received() is not None:  # whatever came of it: an import that is interrupted fails in its own way
            code, line = interrupts.status(), f"interrupted; {verb.kept}"
    if line:
        with suppress(OSError, ValueError, AttributeError):  # standard error is closed, or full
            print(line, file=sys.stderr, flush=True)
    sys.exit(code)


def _run(words: list[str]) -> tuple[int, str]:
    """Run a verb; return the exit status, and the line for stderr."""
    verb.kept = verb.NOTHING
    try:
        app(words, standalone_mode=False)
    except ExplorerError as error:
        return 2, f"error: {error}"
    except typer.TyperException as error:
        return 2, f"error: {escape(shorten(' '.join(error.format_message().split())))}{_advise(error, words)}"
    except MemoryError:
        return 2, "error: Out of memory: the machine gave no more. Ask for less, or use a smaller model."
    except OSError as error:
        return 2, f"error: {escape(' '.join(filter(None, (error.strerror or str(error), str(error.filename or '')))))}"
    except (KeyboardInterrupt, typer.Abort):
        return interrupts.status(), f"interrupted; {verb.kept}"
    return 0, ""


def _advise(error: typer.TyperException, words: list[str]) -> str:
    """Say how to give an option several words, where words were left over that stand after such an option."""
    option = next((name for word in words if (name := word.partition("=")[0]) in _REPEATED), None)
    if option is None or "unexpected extra argument" not in error.format_message():
        return ""
    return f": give {option} again before each word, as in {option} A {option} B"
