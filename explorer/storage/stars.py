"""What users starred and named, of a model's variants on a text: the one table that nobody can compute anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

LONGEST_NAME = 200  # characters


@dataclass(frozen=True)
class Star:
    """What is kept of a variant.

    Args:
        starred: whether it is among those that are compared.
        name: that somebody gave it, or nothing.
    """

    starred: bool = False
    name: str = ""


class Stars:
    """Stars and names by model, text and variant; the same for everybody who uses the store.

    Args:
        read: returns a query's rows.
        write: gives the database in a transaction.
    """

    def __init__(
        self,
        read: Callable[[str, tuple], list[tuple]],
        write: Callable[[], AbstractContextManager[sqlite3.Connection]],
    ) -> None:
        self._read, self._write = read, write

    def list(self, model: str, text: str) -> dict[str, Star]:
        """List what is kept of a model's variants on a text.

        Args:
            model: digest of its files.
            text: digest of the windows.
        """
        rows = self._read("SELECT variant, starred, name FROM stars WHERE model=? AND text=?", (model, text))
        return {variant: Star(bool(starred), name) for variant, starred, name in rows}

    def star(self, model: str, text: str, variant: str, starred: bool = True) -> None:
        """Star a variant, or take its star away; its name stays."""
        self._keep(model, text, variant, "starred", starred)

    def name(self, model: str, text: str, variant: str, name: str) -> None:
        """Name a variant; its star stays."""
        self._keep(model, text, variant, "name", " ".join(name.split())[:LONGEST_NAME])

    def _keep(self, model: str, text: str, variant: str, column: str, value: bool | str) -> None:
        """Change one column of a row, whatever another process does to the other."""
        with self._write() as db:
            key = (model, text, variant)
            db.execute("INSERT OR IGNORE INTO stars VALUES (?, ?, ?, 0, '')", key)
            db.execute(f"UPDATE stars SET {column}=? WHERE model=? AND text=? AND variant=?", (value, *key))
            db.execute("DELETE FROM stars WHERE starred=0 AND name='' AND model=? AND text=? AND variant=?", key)
