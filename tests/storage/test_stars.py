"""Stars: what one process keeps another reads, nothing but their user takes them away."""

from __future__ import annotations

import sqlite3
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from explorer.storage.eviction import count_rows, evict, take_stock
from explorer.storage.stars import Star
from explorer.storage.store import Store
from tests.support.processes import child

MODEL, TEXT = "model", "text"


def _star_many(pipe: Connection, folder: Path, first: int) -> None:
    store = Store(folder)
    pipe.send("open")
    pipe.recv()
    for number in range(first, first + 40):
        store.stars.star(MODEL, TEXT, f"{number}:")
        store.stars.name(MODEL, TEXT, f"shared:{first}", f"name {number}")
        store.stars.star(MODEL, TEXT, "both:")
    pipe.send("done")


def test_two_processes_lose_none_of_each_others_stars(tmp_path: Path) -> None:
    with child(_star_many, tmp_path, 0) as (_, one), child(_star_many, tmp_path, 100) as (_, other):
        for pipe in (one, other):
            assert pipe.recv() == "open"
        for pipe in (one, other):
            pipe.send("go")
        assert [pipe.recv() for pipe in (one, other)] == ["done", "done"]
    found = Store(tmp_path).stars.list(MODEL, TEXT)
    numbers = [*range(40), *range(100, 140)]
    assert {each for each, kept in found.items() if kept.starred} == {*(f"{number}:" for number in numbers), "both:"}
    assert (found["shared:0"], found["shared:100"]) == (Star(name="name 39"), Star(name="name 139"))


def test_star_and_name_are_changed_one_without_the_other(tmp_path: Path) -> None:
    stars = Store(tmp_path).stars
    stars.star(MODEL, TEXT, "1:refit")
    stars.name(MODEL, TEXT, "1:refit", "  the\n best  ")
    stars.star(MODEL, TEXT, "2:")
    stars.star(MODEL, "other text", "3:")
    assert stars.list(MODEL, TEXT) == {"1:refit": Star(True, "the best"), "2:": Star(True)}
    stars.star(MODEL, TEXT, "1:refit", starred=False)
    stars.star(MODEL, TEXT, "2:", starred=False)
    assert stars.list(MODEL, TEXT) == {"1:refit": Star(False, "the best")}
    stars.name(MODEL, TEXT, "1:refit", "")
    assert stars.list(MODEL, TEXT) == {}
    assert list(stars.list(MODEL, "other text")) == ["3:"]


@pytest.mark.parametrize("folder", [True, False])
def test_stars_outlive_the_store_that_has_a_folder(tmp_path: Path, folder: bool) -> None:
    place = tmp_path if folder else None
    Store(place).stars.star(MODEL, TEXT, "1:")
    assert bool(Store(place).stars.list(MODEL, TEXT)) == folder


def test_scores_are_evicted_and_stars_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add_nll("context", [("window", "1", 2.0)])
    store.stars.star(MODEL, TEXT, "1:")
    assert count_rows(tmp_path) == {"nll": 1, "divergences": 0, "stars": 1}
    evict(take_stock(tmp_path))
    assert count_rows(tmp_path) == {"nll": 0, "divergences": 0, "stars": 1}
    assert store.stars.list(MODEL, TEXT) == {"1:": Star(True)}


def test_a_database_of_before_gets_the_table_and_keeps_its_scores(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add_nll("context", [("window", "1", 2.0)])
    store.close()
    with sqlite3.connect(tmp_path / "scores.sqlite") as db:
        db.execute("DROP TABLE stars")
    db.close()
    assert count_rows(tmp_path) == {"nll": 1, "divergences": 0, "stars": 0}
    store = Store(tmp_path)
    store.stars.star(MODEL, TEXT, "1:")
    assert store.nll("context", ["window"], "1") == {"window": 2.0}
    assert count_rows(tmp_path)["stars"] == 1
