"""Rows of one store, taken into another."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from explorer.storage.exchange import absorb, list_rows
from explorer.storage.store import CacheError, Store


def _fill(store: Store) -> None:
    store.add_nll("c", [("w1", "none", 1 / 3), ("w2", "none", math.inf)])
    store.add_overflows("c", [("w2", "none", 7)])
    store.add_divergences("c", [("w1", "a1", 0.1, 0.2, 3.0)])


def test_what_another_found_is_known_and_kept(tmp_path: Path) -> None:
    other, own = Store(None), Store(tmp_path)
    _fill(other)
    absorb(own, list_rows(other))
    own.close()
    again = Store(tmp_path)
    assert list_rows(again) == list_rows(other)
    assert again.nll("c", ["w1", "w2"], "none") == {"w1": 1 / 3, "w2": math.inf}
    assert again.overflow("c", ["w2"], "none") == 7
    again.close()


def test_what_is_known_stays(store: Store) -> None:
    store.add_nll("c", [("w1", "none", 1.0)])
    absorb(store, {"nll": [("c", "w1", "none", 2.0), ("c", "w2", "none", 3.0)]})
    assert store.nll("c", ["w1", "w2"], "none") == {"w1": 1.0, "w2": 3.0}


def test_rows_are_taken_in_all_or_none(store: Store) -> None:
    with pytest.raises(CacheError):
        absorb(store, {"nll": [("c", "w1", "none", 2.0)], "overflows": [("c", "w1", "none", None)], "nothing": [(1,)]})
    assert list_rows(store) == {"nll": [], "overflows": [], "divergences": []}


def test_digests_of_files_go_along(tmp_path: Path, store: Store) -> None:
    file, other = tmp_path / "weights", Store(None)
    file.write_bytes(b"weights")
    store.digest(file, lambda path: "digest")
    absorb(other, list_rows(store, ("files",)))

    def compute(path: Path) -> str:
        raise sqlite3.Error("read again")

    assert other.digest(file, compute) == "digest"
