"""Whatever a tokenizer raises, a panic of its Rust code included, is one line of this program's own errors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from explorer.errors import Cancelled, ModelError, TextError
from explorer.guarding import guarded, is_panic
from tests.support.tiny_models import Tiny, load_folder, make_tokenizer


def _panic() -> BaseException:
    """Return an error as pyo3 makes it: outside the tree of `Exception`."""
    made = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    return made("index out of bounds: the len is 4\nand more")


@pytest.mark.parametrize("error", [ValueError("bad\nworse"), KeyError("x"), MemoryError(), RecursionError(), _panic()])
@pytest.mark.parametrize("kind", [ModelError, TextError])
def test_what_is_raised_becomes_one_line(error: BaseException, kind: type[ModelError] | type[TextError]) -> None:
    with (
        pytest.raises(kind, match=r"^Cannot cut: [^\n]+\. Do this\.$") as caught,
        guarded("Cannot cut", "Do this", kind),
    ):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), Cancelled(), TextError("a", "b", "c")]
)
def test_what_ends_the_work_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, guarded("Cannot cut"):
        raise error
    assert caught.value is error


def test_a_tokenizer_that_panics_while_it_is_loaded_is_refused_in_one_line(tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny.folder("llama"), tmp_path / "panics")
    _make_panic(folder / "tokenizer.json")
    with pytest.raises(ModelError, match="Cannot load the tokenizer") as caught:
        load_folder(folder)
    assert caught.value.__cause__ is not None
    assert is_panic(caught.value.__cause__)
    assert "\n" not in str(caught.value)


def test_of_a_panic_only_its_report_is_held_back(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    panicking = make_tokenizer()
    panicking.save_pretrained(tmp_path)
    _make_panic(tmp_path / "tokenizer.json")
    broken = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    with pytest.raises(TextError):
        _run(b"a line before\n", lambda: broken.encode("hello"))
    with guarded("Cannot cut"):
        os.write(2, b"a line of another block\n")
    assert capfd.readouterr().err == "a line before\na line of another block\n"


def test_other_reports_of_an_error_are_written(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TextError):
        _run(b"what it says\n", lambda: int("x"))
    assert capfd.readouterr().err == "what it says\n"


def _run(line: bytes, work: Callable[[], object]) -> None:
    with guarded("Cannot cut", kind=TextError):
        os.write(2, line)
        work()


def _make_panic(path: Path) -> None:
    """Give a tokenizer a map of characters that points outside of itself: a panic at the first text."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAAA="}
    path.write_text(json.dumps(document), encoding="utf-8")
