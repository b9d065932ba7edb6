"""Numbers of variants on windows, in tables of a database: nats, where they overflowed, divergences."""

from __future__ import annotations

import json
import math
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager

_LISTED = "(SELECT value FROM json_each(?))"


class Numbers(ABC):
    """Numbers by context, window digest and mask; a context is the key of everything else that decides them."""

    @abstractmethod
    def _read(self, query: str, values: tuple) -> list[tuple]:
        """Return a query's rows."""

    @abstractmethod
    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """Give the database in a transaction."""

    def nll(self, context: str, windows: Iterable[str], mask: str) -> dict[str, float]:
        """Return window digest -> stored negative log-likelihood under a mask, for the windows that have been scored.

        They are infinite where the model's arithmetic overflowed.
        """
        return self.nll_of(context, windows, [mask])[mask]

    def nll_of(self, context: str, windows: Iterable[str], masks: Iterable[str]) -> dict[str, dict[str, float]]:
        """Return the same of each of some masks."""
        found = self._find("nll", "nll", context, windows, masks)
        return {mask: {window: nll for window, (nll,) in values.items()} for mask, values in found.items()}

    def divergences_of(
        self, context: str, windows: Iterable[str], masks: Iterable[str]
    ) -> dict[str, dict[str, tuple[float, ...]]]:
        """Return of each mask window digest -> stored (kl, logit_l2, top1_matches), for the windows that have them."""
        return self._find("kl, logit_l2, top1_matches", "divergences", context, windows, masks)

    def overflow(self, context: str, windows: Iterable[str], mask: str) -> int | None:
        """Return the first layer that overflowed on any of the windows under a mask, L for the head, if any."""
        found = self._find("layer", "overflows", context, windows, [mask])[mask]
        return min((int(layer) for (layer,) in found.values()), default=None)

    def _find(
        self, columns: str, table: str, context: str, windows: Iterable[str], masks: Iterable[str]
    ) -> dict[str, dict[str, tuple[float, ...]]]:
        """Return of each mask window digest -> what is stored, in one query."""
        found: dict[str, dict[str, tuple[float, ...]]] = {mask: {} for mask in masks}
        query = (
            f"SELECT mask, window, {columns} FROM {table} WHERE context=? AND window IN {_LISTED} AND mask IN {_LISTED}"
        )
        for mask, window, *values in self._read(query, (context, json.dumps(list(windows)), json.dumps(list(found)))):
            found[mask][window] = tuple(map(_read_number, values))
        return found

    def add_nll(self, context: str, rows: Iterable[tuple[str, str, float]]) -> None:
        """Store (window digest, mask, nll) rows, all or none; what is known stays as it is."""
        with self._transaction() as db:
            found = [(context, window, mask, _write_number(nll)) for window, mask, nll in rows]
            db.executemany("INSERT OR IGNORE INTO nll VALUES (?, ?, ?, ?)", found)

    def add_overflows(self, context: str, rows: Iterable[tuple[str, str, int]]) -> None:
        """Store (window digest, mask, layer) rows, all or none."""
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO overflows VALUES (?, ?, ?, ?)", [(context, *row) for row in rows])

    def add_divergences(self, context: str, rows: Iterable[tuple[str, str, float, float, float]]) -> None:
        """Store (window digest, mask, kl, logit_l2, top1_matches) rows, all or none."""
        with self._transaction() as db:
            query = "INSERT OR REPLACE INTO divergences VALUES (?, ?, ?, ?, ?, ?)"
            db.executemany(query, [(context, *row[:2], *map(_write_number, row[2:])) for row in rows])

    def note_variant(self, key: str, modifiers: str, zeros: int, added: int) -> None:
        """Note of a variant with deltas what made them, its zeros in what they change, the numbers that stand in."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO variants VALUES (?, ?, ?, ?)", (key, modifiers, zeros, added))

    def knows_variant(self, key: str) -> bool:
        """Tell whether a variant was noted."""
        return bool(self._read("SELECT 1 FROM variants WHERE variant=?", (key,)))

    def list_scored(self, context: str, window: str) -> list[tuple[str, str | None, int | None, int | None]]:
        """List the variants that are scored on a window: key, and what was noted of those with deltas."""
        found = "SELECT mask, modifiers, zeros, added FROM nll LEFT JOIN variants ON variant = mask"
        return self._read(f"{found} WHERE context=? AND window=? ORDER BY mask", (context, window))


def _write_number(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _read_number(stored: float | None) -> float:
    return math.inf if stored is None else stored
