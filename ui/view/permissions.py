"""What a link may have this server read: folders that its operator named, the hub, and what somebody here agreed to.

Imports no Streamlit.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from explorer.paths import expand_user
from explorer.text import DEFAULT_TEXT, is_hub_name

Kind = Literal["model", "text"]

#: Texts that are known by a name.
TEXTS = (DEFAULT_TEXT, "wikitext2", "c4")
_MOST_AGREED = 1000


class NoName(ValueError):
    """What a link gives can be neither a path nor a name of the hub; its text is one line."""


@dataclass
class Permissions:
    """What may be read without a word from whoever looks at the page.

    Args:
        models, texts: folders below which everything may be read, but for what is hidden.
        agreed: paths that somebody named or agreed to on a page of this server; the last thousand.
    """

    models: tuple[Path, ...]
    texts: tuple[Path, ...]
    agreed: OrderedDict[tuple[Kind, Path], None] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Permissions:
        """Read the folders from EXPLORER_MODELS and EXPLORER_TEXTS, or take the working folder and the hub's cache.

        The model that the operator chose may be read wherever it is.
        """
        models, texts = (
            _read_folders(environment.get(name, "")) or _usual() for name in ("EXPLORER_MODELS", "EXPLORER_TEXTS")
        )
        made = cls(models, texts)
        if chosen := environment.get("EXPLORER_MODEL", "").strip():
            made.agree("model", chosen)
        return made

    def asks(self, kind: Kind, name: str) -> Path | None:
        """Return the path that a link's name asks to read, if that needs a click; None if it does not.

        Symbolic links and `..` are followed first. Whether the path is there makes no difference.

        Raises:
            NoName: no path and no name of the hub.
        """
        path = find_path(kind, name)
        if path is None or (kind, path) in self.agreed:
            return None
        return None if any(_lies_below(path, root) for root in getattr(self, f"{kind}s")) else path

    def agree(self, kind: Kind, name: str) -> None:
        """Take note that somebody named something on a page of this server, or agreed to it there."""
        try:
            path = find_path(kind, name)
        except NoName:
            return  # whoever reads it says what is wrong with it
        if path is not None:
            with self._lock:
                self.agreed[kind, path] = None
                while len(self.agreed) > _MOST_AGREED:
                    self.agreed.popitem(last=False)


def find_path(kind: Kind, name: str) -> Path | None:
    """Return the path on this machine that a name would be read from, followed to its end; None for the hub's.

    Raises:
        NoName: no path and no name of the hub.
    """
    if kind == "text" and name in TEXTS:
        return None
    if kind == "text" and name.startswith("hf:"):
        name = name.removeprefix("hf:").split(":")[0]
        if is_hub_name(name):
            return None  # explorer/text/hub_datasets.py asks the hub alone
        return _resolve(name)
    if kind == "model" and is_hub_name(name) and not name.lower().endswith(".gguf") and not _is_there(name):
        return None
    return _resolve(name.removeprefix("tokens:") if kind == "text" else name)


def _is_there(name: str) -> bool:
    try:
        return os.path.lexists(expand_user(name))
    except ValueError:
        return False


def _resolve(name: str) -> Path:
    try:
        if not name or max(map(len, map(os.fsencode, name.split("/")))) > 255:
            raise ValueError
        return expand_user(name).resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL in it, links in a circle
        raise NoName(f"{name[:80]!r} is no path on this machine.") from None


def _lies_below(path: Path, root: Path) -> bool:
    """Tell whether a path is a folder or in it, and not in a hidden one below it."""
    if not path.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _read_folders(text: str) -> tuple[Path, ...]:
    return _resolve_all(part for part in text.split(os.pathsep) if part.strip())


def _usual() -> tuple[Path, ...]:
    """The working folder, unless it is the root of the file system, and the hub's cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    working = Path.cwd()
    return _resolve_all([HF_HUB_CACHE] if working == Path(working.anchor) else [working, HF_HUB_CACHE])


def _resolve_all(names: Iterable[str | Path]) -> tuple[Path, ...]:
    return tuple(expand_user(name).resolve() for name in names)
