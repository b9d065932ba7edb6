"""What a store has of numbers, as rows that can be sent; and rows of others, taken in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from explorer.storage.store import Store

#: What is worked out by running a model.
NUMBERS = ("nll", "overflows", "divergences")

#: Table -> its rows.
Rows = Mapping[str, list[tuple[Any, ...]]]


def list_rows(store: Store, tables: Iterable[str] = NUMBERS) -> Rows:
    """List all rows of some tables."""
    return {table: store._read(f"SELECT * FROM {table}", ()) for table in tables}


def absorb(store: Store, rows: Rows) -> None:
    """Store rows that another store listed, all or none; what is known stays as it is."""
    with store._transaction() as db:
        for table, found in rows.items():
            if found:
                places = ", ".join("?" * len(found[0]))
                db.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({places})", found)
