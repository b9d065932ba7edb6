"""The shapes and dtypes that signatures promise, checked at every call while tests run.

jaxtyping's own import hook puts its checks under a function's other decorators, where `torch.inference_mode` no longer
sees that it decorates a generator. These lie over them, and only on functions that take or give arrays.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import cached_property
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import FunctionType, ModuleType
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

#: Functions and dataclasses that are checked, by their full names.
CHECKED: list[str] = []


def check_on_import(package: str) -> None:
    """Check the modules of a package that are imported from now on."""
    sys.meta_path.insert(0, _Finder(package))


class _Finder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if not fullname.startswith(f"{self.package}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        _check_all(module, module.__name__)


def _check_all(owner: ModuleType | type, module: str) -> None:
    """Put checks on the functions of a module or class that are its own, and on those of a module's classes."""
    for name, value in list(vars(owner).items()):
        if isinstance(value, cached_property):
            value.func = _check(value.func)
        elif isinstance(value, property) and value.fget:
            setattr(owner, name, value.getter(_check(value.fget)))
        elif getattr(value, "__module__", None) != module and not _is_made(owner, name):
            continue
        elif isinstance(value, type):
            _check_all(value, module)
        elif isinstance(value, FunctionType):
            setattr(owner, name, _check(value))


def _is_made(owner: ModuleType | type, name: str) -> bool:
    return name == "__init__" and is_dataclass(owner)


def _check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that checks its arrays; the function itself if it has none."""
    written = inspect.unwrap(function)
    if not any(_names_array(_resolve(hint, written)) for hint in written.__annotations__.values()):
        return function
    CHECKED.append(f"{written.__module__}.{written.__qualname__}")
    return jaxtyped(function, typechecker=_check_arrays)


def _check_arrays(function: FunctionType) -> Callable[..., Any]:
    """Check what a function says of arrays and nothing else: tests have stand-ins for models and the like."""
    hints = function.__annotations__
    function.__annotations__ = {name: hint if _names_array(hint) else Any for name, hint in hints.items()}
    return beartype(function)


def _resolve(hint: Any, function: FunctionType) -> Any:
    """Return what an annotation stands for; nothing where it names what is imported for the type checker only."""
    try:
        return eval(hint, function.__globals__) if isinstance(hint, str) else hint
    except NameError:
        return None


def _names_array(hint: Any) -> bool:
    return any(isinstance(part, type) and issubclass(part, AbstractArray) for part in _parts(hint))


def _parts(hint: Any) -> Iterator[Any]:
    """Yield an annotation and all that is in it."""
    yield hint
    for part in hint if isinstance(hint, list) else get_args(hint):
        yield from _parts(part)
