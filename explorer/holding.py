"""A context variable that holds a value for the time of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

_T = TypeVar("_T")


@contextmanager
def holding(variable: ContextVar[Any], value: _T) -> Iterator[_T]:
    """Have a variable hold a value in the block, in the calling thread; it is given to the block."""
    token = variable.set(value)
    try:
        yield value
    finally:
        variable.reset(token)
