"""Ctrl-C and SIGTERM at any moment: the exit status, one line, nothing half written; standard output that is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from explorer import interrupts
from explorer.cli import main
from explorer.storage.store import Store
from tests.support.tiny_models import REPOSITORY, WINDOW, Tiny


def _start(words: list[str], **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "explorer", *words], cwd=REPOSITORY, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,  # type: ignore[call-overload]
    )  # fmt: skip


def _words(tiny: Tiny, cache: Path, verb: str, *more: str) -> list[str]:
    size = ["--window", str(WINDOW), "--tokens", str(400 * WINDOW), "--cache", str(cache)]
    return [verb, "--model", str(tiny.folder("llama")), "--dtype", "float32", "--device", "cpu", *size, *more]


def _end(process: subprocess.Popen[str], number: int) -> tuple[int, str, list[str]]:
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.splitlines()


def test_an_interrupt_while_libraries_are_imported(tiny: Tiny, tmp_path: Path) -> None:
    for after in (0.15, 0.5):
        process = _start(_words(tiny, tmp_path / "cache", "info"))
        time.sleep(after)
        code, out, lines = _end(process, signal.SIGINT)
        assert (code, out, len(lines)) == (130, "", 1), lines
        assert lines[0].startswith("interrupted")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("verb", "number", "code"),
    [
        (["plan", "--method", "greedy", "--confidence", "1"], signal.SIGINT, 130),
        (["interactions", "--unit", "site"], signal.SIGTERM, 143),
    ],
)
def test_an_interrupt_while_it_works(tiny: Tiny, tmp_path: Path, verb: list[str], number: int, code: int) -> None:
    cache = tmp_path / "cache"
    process = _start(_words(tiny, cache, *verb))
    deadline = time.monotonic() + 120
    while not (cache / "scores.sqlite-wal").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    assert _end(process, number) == (code, "", [f"interrupted; what was measured is kept in {cache}"])
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["scores.sqlite"]
    with closing(Store(cache)) as store:
        assert store.folder == cache


def test_an_interrupt_that_a_library_swallows_is_raised_again() -> None:
    class Swallowing:
        def __del__(self) -> None:  # what is raised here is reported, and lost
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    before = signal.getsignal(signal.SIGINT)

    def work() -> None:
        Swallowing()
        time.sleep(5)

    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        work()
    assert interrupts.received() == signal.SIGINT
    assert interrupts.status() == 130
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whatever_an_interrupt_turns_into_it_is_told_as_one(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An import that is interrupted may fail as an ImportError, a search as its own error."""

    def fail(*_: object, **__: object) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except KeyboardInterrupt:
            raise OSError("the library's own words") from None

    monkeypatch.setattr("explorer.cli.cache.take_stock", fail)
    monkeypatch.setattr(sys, "argv", ["explorer", "cache", "--cache", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 128 + number
    assert capsys.readouterr() == ("", f"interrupted; what was measured is kept in {tmp_path}\n")


def test_an_answer_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "explorer", "cache", "--cache", str(tmp_path)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "No space left" in done.stderr
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, cwd=REPOSITORY, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(write)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    closed = " ".join(["exec", *words, ">&-"])
    done = subprocess.run(["sh", "-c", closed], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
