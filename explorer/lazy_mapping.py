"""Objects by name: the names are known at once, the file that makes an object is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pkgutil import resolve_name
from typing import Generic, TypeVar

_T = TypeVar("_T")


class LazyMapping(Mapping[str, _T], Generic[_T]):
    """Objects by name. To list the names imports nothing; to take an object imports its file.

    Args:
        places: for each name where its object is, as `package.module:OBJECT`.
    """

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = dict(places)

    def __getitem__(self, name: str) -> _T:
        return resolve_name(self._places[name])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
