"""What the program wrote -> the same again: of a format that it knows, and every field as it has to be."""

from __future__ import annotations

import re
import reprlib
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

#: The key under which documents say of which format they are, and that of those without it.
FORMAT, FIRST = "format", 1

_Kind = TypeVar("_Kind")


class NotWhatWasWritten(ValueError):
    """A document cannot be read back; the text says why, in one line."""


def read_back(kind: type[_Kind], found: Any, latest: int, key: str = FORMAT) -> _Kind:
    """Make an object of what JSON held.

    Args:
        kind: a pydantic model or a dataclass; fields that it lacks are passed over.
        latest: the format that the program writes; those before are read too.
        key: where the document says its own.

    Raises:
        NotWhatWasWritten: the document is of a later format, or none of any.
    """
    number = found.get(key, FIRST) if isinstance(found, dict) else FIRST
    if type(number) is not int or number < FIRST:
        raise NotWhatWasWritten(f"{key} is {reprlib.repr(number)}")
    if number > latest:
        raise NotWhatWasWritten(f"it is of format {reprlib.repr(number)}, and this version reads up to {latest}")
    try:
        return TypeAdapter(kind).validate_python(found)
    except ValidationError as error:
        raise NotWhatWasWritten(describe_first(error, found)) from None


def describe_first(error: ValidationError, document: Any) -> str:
    """Say in one line which field of a document is not as it has to be, what was found there and what was wanted."""
    first = error.errors(include_url=False, include_context=False)[0]
    names = _follow(first["loc"], document)
    if first["type"].startswith("missing"):
        return f"{'.'.join([*names, str(first['loc'][-1])])} is missing"
    wanted = re.sub(r" or (an )?instance of \w+$", "", first["msg"])
    return f"{'.'.join(names) or 'it'} is {reprlib.repr(first['input'])}: {wanted[:1].lower()}{wanted[1:]}"


def _follow(places: tuple[int | str, ...], document: Any) -> list[str]:
    """Return the names on the way into a document; those that pydantic gives the kinds of a union are passed over."""
    names = []
    for place in places:
        if _leads_on(place, document):
            names.append(str(place))
            document = document[place]
    return names


def _leads_on(place: int | str, document: Any) -> bool:
    return place in document if isinstance(document, dict) else isinstance(document, list) and type(place) is int
