"""Each verb offered as a kind of request: its options as a model, its answer as JSON."""

from __future__ import annotations

import inspect
import json
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from pydantic import BaseModel, ConfigDict, Field, create_model

from explorer.execution import Kind, Request, RequestError, Task, offer
from explorer.jsonable import to_json
from explorer.verbs.catalogue import VERBS
from explorer.verbs.options import SHELL, TEXTS
from explorer.verbs.served import Served, set_up
from explorer.verbs.work import Work

_REMEDY = "docs/api.md says what a request holds"


@cache
def _find_marks(kind: str) -> dict[str, tuple[Any, ...]]:
    """Return what each option of a verb is annotated with: its type, typer's option, marks."""
    hints = get_type_hints(VERBS[kind], include_extras=True)
    found = {name: get_args(hints[name]) for name in list(inspect.signature(VERBS[kind]).parameters)[1:]}
    return {name: marks for name, marks in found.items() if SHELL not in marks}


@cache
def get_options(kind: str) -> type[BaseModel]:
    """Return a verb's options as a model: what its command takes, but for files."""
    parameters = inspect.signature(VERBS[kind]).parameters
    fields: dict[str, Any] = {}
    for name, (type_, option, *_) in _find_marks(kind).items():
        default = ... if (found := parameters[name].default) is inspect.Parameter.empty else found
        fields[name] = type_, Field(default, ge=option.min, le=option.max, description=option.help)
    closed = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    return create_model(f"{kind.capitalize()}Options", __config__=closed, __doc__=VERBS[kind].__doc__, **fields)


def _find_texts(kind: str) -> tuple[str, ...]:
    return tuple(name for name, marks in _find_marks(kind).items() if TEXTS in marks)


def _answer(work: Work, request: Request) -> dict[str, Any]:
    try:
        found, _ = VERBS[request.kind](work, **request.options)
    except typer.BadParameter as error:
        raise RequestError("An option is not valid", error.format_message(), _REMEDY) from None
    return to_json(found)


def _answer_task(task: Task, **options: Any) -> str:
    return json.dumps(_answer(Served(task), task.request), allow_nan=False)


for each in VERBS:
    offer(Kind(each, _answer_task, partial(get_options, each), partial(_find_texts, each), of_programs=True))


def answer(request: Request, folder: Path = Path("cache")) -> dict[str, Any]:
    """Answer a verb's request in this process: what the verb prints with `--json`.

    Args:
        request: what is asked.
        folder: the cache.

    Raises what the verb does, as an ExplorerError.
    """
    work = Work(set_up(request, folder))
    try:
        return _answer(work, request)
    finally:
        work.close()
