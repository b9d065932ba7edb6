"""The kinds of requests by name, each offered by the room that answers it: what it takes, and what is done."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model


@dataclass(frozen=True)
class Kind:
    """A kind of request.

    Args:
        name: what requests call it.
        work: given a Task and the options by name it does what is asked, and returns what it finds.
        options: returns the model of what it takes, as JSON has it.
        texts: returns the names of the options that name texts.
        of_programs: whether programs ask for it, and get its answer as JSON text; pages alone ask for others.
        recalled: whether a browser that was reloaded finds the latest of them without asking for one.
        loads: whether it needs the model in memory; what does not can be done inside of whatever runs.
    """

    name: str
    work: Callable[..., Any]
    options: Callable[[], type[BaseModel]]
    texts: Callable[[], tuple[str, ...]]
    of_programs: bool = False
    recalled: bool = False
    loads: bool = True


#: Those that rooms have offered so far.
KINDS: dict[str, Kind] = {}


def offer(kind: Kind) -> None:
    """Have requests name a kind. Raises ValueError if another is called so."""
    if kind.name in KINDS:
        raise ValueError(f"{kind.name} is offered already")
    KINDS[kind.name] = kind


def offered(
    name: str, texts: tuple[str, ...] = (), recalled: bool = False, loads: bool = True
) -> Callable[[Callable[..., Any]], Kind]:
    """Offer a function of a Task and options to the pages, in place of which the Kind is.

    Args:
        name: what requests call it.
        texts: its options that name texts.
        recalled, loads: see `Kind`.
    """

    def take(work: Callable[..., Any]) -> Kind:
        made = Kind(name, work, cache(lambda: _model_options(work)), lambda: texts, recalled=recalled, loads=loads)
        offer(made)
        return made

    return take


def _model_options(work: Callable[..., Any]) -> type[BaseModel]:
    hints = get_type_hints(work)
    fields: dict[str, Any] = {name: (hints[name], ...) for name in list(inspect.signature(work).parameters)[1:]}
    return create_model(work.__name__, __config__=ConfigDict(frozen=True, extra="forbid", strict=True), **fields)
