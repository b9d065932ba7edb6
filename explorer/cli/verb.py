"""A function (work, own options) -> a verb of the command line."""

from __future__ import annotations

import errno
import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from typing import Any

import typer

from explorer.errors import ExplorerError, escape
from explorer.jsonable import to_json
from explorer.processes import is_first
from explorer.verbs import Settings, Work

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Measure which layers, attention and MLPs of a language model could go, and export the smaller checkpoint.",
)

#: What an interrupt leaves of the work, in words.
NOTHING = "nothing is kept"
kept = NOTHING


def verb(function: Callable[..., tuple[dict[str, Any], str]]) -> Callable[..., None]:
    """Make a verb of a function (work, own options) -> (JSON answer, answer for people)."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    hints = inspect.get_annotations(Settings, eval_str=True)
    shared = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=_default(f), annotation=hints[f.name])
        for f in fields(Settings)
    ]

    def command(**options: Any) -> None:
        global kept
        settings = Settings(**{f.name: options.pop(f.name) for f in fields(Settings)})
        kept = NOTHING if settings.no_cache else f"what was measured is kept in {escape(str(settings.cache))}"
        work = Work(settings)
        try:
            answer, words = function(work, **options)
        finally:
            work.close()
        _answer(json.dumps(to_json(answer), allow_nan=False) if settings.json else escape(words, kept="\n"))

    required = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    command.__signature__ = inspect.Signature([*required, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*required, *shared]}
    app.command(function.__name__, help=function.__doc__)(command)
    return command


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _answer(text: str) -> None:
    """Print to standard output, the first of several processes alone. Raises ExplorerError if it is closed or full."""
    if not is_first():
        return
    try:
        if sys.stdout is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        print(text, flush=True)
    except OSError as error:
        if sys.stdout is not None:  # so that what is left of it is not written at the end, again in vain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        found = error.strerror or str(error)
        raise ExplorerError("The answer cannot be written to standard output", found, "Direct it elsewhere") from None
