"""Store: shared by threads and processes, robust to a broken file, keyed by everything that matters."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from explorer.storage.keys import EDITIONS, make_key
from explorer.storage.store import CacheError, Store
from explorer.storage.tables import LAYOUT
from tests.support.tiny_models import REPOSITORY

_WRITER = """
import sys
from pathlib import Path
from explorer.storage.store import Store
store = Store(Path(sys.argv[1]))
for i in range(50):
    store.add_nll("shared", [(f"{sys.argv[2]}-{i}", "none", float(i)), ("both", "none", 1.0)])
"""


def test_two_connections_see_each_other(tmp_path: Path) -> None:
    first, second = Store(tmp_path), Store(tmp_path)
    first.add_nll("context", [("w1", "none", 1.5), ("w2", "none", 2.5), ("w1", "a0", 3.5)])
    assert second.nll("context", ["w1", "w3"], "none") == {"w1": 1.5}
    second.add_nll("context", [("w3", "none", 4.0)])
    assert first.nll("context", ["w1", "w2", "w3"], "none") == {"w1": 1.5, "w2": 2.5, "w3": 4.0}
    assert first.nll("other", ["w1"], "none") == {}
    first.close()
    second.close()


def test_threads_write_one_store(tmp_path: Path) -> None:
    for store in (Store(tmp_path), Store(None)):

        def write(thread: int, store: Store = store) -> None:
            for i in range(20):
                store.add_nll("c", [(f"{thread}-{i}", "none", float(i))])
                assert store.nll("c", [f"{thread}-{i}"], "none") == {f"{thread}-{i}": float(i)}

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(write, range(6)))
        assert len(store.nll("c", [f"{t}-{i}" for t in range(6) for i in range(20)], "none")) == 120
        store.close()


def test_processes_write_one_file(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path), name], cwd=REPOSITORY)
        for name in ("a", "b", "c")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    store = Store(tmp_path)
    assert len(store.nll("shared", [f"{n}-{i}" for n in "abc" for i in range(50)], "none")) == 150
    store.close()


def test_stored_float_comes_back_bitwise(tmp_path: Path) -> None:
    value = 1234.5678901234567
    store = Store(tmp_path)
    store.add_nll("c", [("w", "none", value)])
    store.close()
    again = Store(tmp_path)
    assert again.nll("c", ["w"], "none")["w"] == value
    again.close()


def test_rows_are_stored_all_or_none(store: Store) -> None:
    with pytest.raises(CacheError, match="not supported"):
        store.add_nll("c", [("w1", "none", 1.0), ("w2", object(), 1.0)])  # type: ignore[list-item]
    assert store.nll("c", ["w1", "w2"], "none") == {}
    store.add_nll("c", [("w1", "none", 1.0)])
    assert store.nll("c", ["w1"], "none") == {"w1": 1.0}


def test_corrupted_database_is_set_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scores.sqlite").write_bytes(b"this is no database " * 500)
    store = Store(tmp_path)
    store.add_nll("c", [("w", "none", 1.0)])
    assert store.nll("c", ["w"], "none") == {"w": 1.0}
    store.close()
    (broken,) = tmp_path.glob("broken-*")
    assert (broken / "scores.sqlite").read_bytes().startswith(b"this is no database")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(broken) in captured.err


def test_database_of_the_layout_before_is_kept_under_the_new_names(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "scores.sqlite")) as db:
        db.execute(
            "CREATE TABLE nats (context, window, mask, nats REAL, PRIMARY KEY (context, window, mask)) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE divergences (context, window, mask, kl REAL, distance REAL, agreeing REAL, "
            "PRIMARY KEY (context, window, mask)) WITHOUT ROWID"
        )
        db.execute("INSERT INTO nats VALUES ('c', 'w', '1', 2.5)")
        db.execute("INSERT INTO divergences VALUES ('c', 'w', '1', 0.5, 3.0, 7.0)")
        db.execute("PRAGMA user_version=2")
        db.commit()
    store = Store(tmp_path)
    assert store.nll("c", ["w"], "1") == {"w": 2.5}
    assert store.divergences_of("c", ["w"], ["1"]) == {"1": {"w": (0.5, 3.0, 7.0)}}
    assert not list(tmp_path.glob("broken-*"))


@pytest.mark.parametrize("layout", [0, LAYOUT + 1])
def test_database_of_another_layout_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: int
) -> None:
    with closing(sqlite3.connect(tmp_path / "scores.sqlite")) as db:
        db.execute("CREATE TABLE nats (context TEXT, nats TEXT)")
        db.execute("INSERT INTO nats VALUES ('c', 'what it meant is anybody''s guess')")
        db.execute(f"PRAGMA user_version={layout}")
        db.commit()
    for _ in range(2):
        store = Store(tmp_path)
        store.add_nll("c", [("w", "none", 1.0)])
        assert store.nll("c", ["w"], "none") == {"w": 1.0}
        store.close()
    (aside,) = tmp_path.glob("broken-*")
    with closing(sqlite3.connect(aside / "scores.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM nats").fetchone() == (1,)
    assert capsys.readouterr().err.count(f"has layout {layout}, not {LAYOUT}") == 1


def test_cache_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheError):
        Store(tmp_path / "cache")


@pytest.mark.parametrize("on_disk", [True, False])
def test_arrays_come_back(tmp_path: Path, on_disk: bool) -> None:
    store = Store(tmp_path if on_disk else None)
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array([1, 2], np.int32)}
    assert store.arrays("key") is None
    store.add_arrays("key", arrays)
    found = store.arrays("key")
    assert found is not None
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    store.close()


def test_damaged_arrays_count_as_absent(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add_arrays("key", {"a": np.arange(1000.0)})
    (path,) = (tmp_path / "arrays").iterdir()
    for damage in (path.read_bytes()[:300], b"", b"not a zip at all"):
        path.write_bytes(damage)
        assert store.arrays("key") is None
    store.add_arrays("key", {"a": np.arange(2.0)})
    assert list(store.arrays("key") or ()) == ["a"]
    store.close()


def test_memory_store_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(None)
    store.add_nll("c", [("w", "none", 1.0)])
    store.add_arrays("key", {"a": np.zeros(2)})
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_digest_follows_the_file(tmp_path: Path) -> None:
    store, path, asked = Store(tmp_path / "cache"), tmp_path / "file", []

    def compute(path: Path) -> str:
        asked.append(path)
        return path.read_text()

    path.write_text("one")
    assert [store.digest(path, compute) for _ in range(2)] == ["one", "one"]
    assert len(asked) == 1
    path.write_text("three")
    assert store.digest(path, compute) == "three"
    store.close()


def test_key_changes_with_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"model": "m", "dtype": "float32", "device": "cpu"}
    keys = [make_key("plan", **parts), make_key("plan", **dict(reversed(parts.items())))]
    assert keys[0] == keys[1]
    changed = [make_key("plan", **{**parts, name: value + "x"}) for name, value in parts.items()]
    changed += [make_key("plan", **parts, more=""), make_key("taylor", **parts)]
    monkeypatch.setitem(EDITIONS, "plan", 999)
    changed.append(make_key("plan", **parts))
    assert len({keys[0], *changed}) == len(parts) + 4


def test_a_database_damaged_inside_is_set_aside_when_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    store.add_nll("context", [(f"window {n}", "none", float(n)) for n in range(2000)])
    store.close()
    path = tmp_path / "scores.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    store = Store(tmp_path)
    assert store.nll("context", ["window 5"], "none") == {}
    assert "set aside" in capsys.readouterr().err
    store.add_nll("context", [("window 5", "none", 1.0)])
    assert store.nll("context", ["window 5"], "none") == {"window 5": 1.0}
    store.close()


def test_what_is_not_finite_is_no_number(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add_nll("c", [("w", "1", math.inf), ("v", "1", math.nan), ("u", "1", 2.5)])
    store.add_overflows("c", [("w", "1", 7), ("v", "1", 3)])
    store.add_divergences("c", [("w", "1", math.inf, 1.0, math.nan)])
    assert store.nll("c", ["u", "v", "w"], "1") == {"w": math.inf, "v": math.inf, "u": 2.5}
    assert store.overflow("c", ["w"], "1") == 7
    assert store.overflow("c", ["v", "w"], "1") == 3
    assert store.overflow("c", ["u"], "1") is None
    assert store.divergences_of("c", ["w"], ["1"]) == {"1": {"w": (math.inf, 1.0, math.inf)}}
    store.close()
    with closing(sqlite3.connect(tmp_path / "scores.sqlite")) as db:
        assert sorted(db.execute("SELECT window, nll FROM nll")) == [("u", 2.5), ("v", None), ("w", None)]
        assert db.execute("SELECT kl, logit_l2, top1_matches FROM divergences").fetchall() == [(None, 1.0, None)]
