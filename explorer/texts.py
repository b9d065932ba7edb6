"""A text's name -> its documents: a short name, a file, or a data set of the hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import TextError, first_line
from explorer.hub_datasets import stream_rows
from explorer.paths import expand

DEFAULT_TEXT = "python-docs"
FORMS = (
    "Give python-docs, wikitext2, c4, a .txt, .md, .jsonl or .parquet file, "
    "hf:DATASET[:CONFIG[:SPLIT[:COLUMN]]] or tokens:FILE.json"
)

#: Short names: dataset, configuration, calibration split, held-out split, column.
_HUB_TEXTS = {
    "wikitext2": ("Salesforce/wikitext", "wikitext-2-raw-v1", "train", "test", "text"),
    "c4": ("allenai/c4", "en", "train", "validation", "text"),
}

Documents = Callable[[], Iterable[str]]


@dataclass(frozen=True)
class Text:
    """Documents to decide by and, where the source itself keeps them apart, others to judge by."""

    calibration: Documents
    held_out: Documents | None = None


def find_text(name: str) -> Text:
    """Return the documents that a name stands for; they are read when asked for.

    Raises:
        TextError: no such text; or, as it is read, not readable or without the column.
    """
    if name == DEFAULT_TEXT:
        return Text(_read_python_docs)
    if name in _HUB_TEXTS:
        dataset, config, calibration, held_out, column = _HUB_TEXTS[name]
        return Text(
            lambda: _read_dataset(dataset, config, calibration, column),
            lambda: _read_dataset(dataset, config, held_out, column),
        )
    if name.startswith("hf:"):
        dataset, config, split, column, *_ = [*name.removeprefix("hf:").split(":"), "", "", "", ""]
        if not dataset:
            raise TextError("The data set has no name", repr(name), FORMS)
        return Text(lambda: _read_dataset(dataset, config or None, split or "train", column or "text"))
    path = expand(name)
    if len(name) > 1024 or not _is_file(path):
        raise TextError("No such text", repr(name[:80]), FORMS)
    if path.suffix.lower() not in _READERS:
        raise TextError("Unknown kind of text file", path.name, FORMS)
    return Text(lambda: _READERS[path.suffix.lower()](path))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into a TextError."""
    try:
        yield
    except UnicodeDecodeError as error:
        found = f"{path.name}, {error.reason} at byte {error.start}"
        raise TextError("The text is not UTF-8", found, "Convert it to UTF-8") from None
    except OSError as error:
        raise TextError("Cannot read the file", f"{path} ({error.strerror or error})", "Name another file") from None


def _read_python_docs() -> Iterator[str]:
    from pydoc_data.topics import topics

    return (topics[name] for name in sorted(topics))


def _read_plain(path: Path) -> list[str]:
    with reading(path):
        return [path.read_text(encoding="utf-8-sig")]


def _read_jsonl(path: Path) -> Iterator[str]:
    with reading(path), path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            where = f"line {number} of {path.name}"
            try:
                row = json.loads(line) if line.strip() else None
            except (json.JSONDecodeError, RecursionError):
                raise TextError("Not a line of JSON", where, "Write one JSON object a line") from None
            if row is not None:
                yield _column(row if isinstance(row, dict) else {}, "text", where)


def _read_parquet(path: Path) -> Iterator[str]:
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise TextError(
            "Not a Parquet file", f"{path.name} ({first_line(error)})", "Write it again as Parquet"
        ) from None
    _column(dict.fromkeys(file.schema_arrow.names), "text", path.name)
    try:
        for batch in file.iter_batches(columns=["text"]):
            yield from (str(text) for text in batch.column(0).to_pylist() if text is not None)
    except (OSError, ValueError) as error:
        raise TextError("The Parquet file is damaged", f"{path.name} ({first_line(error)})", "Write it again") from None


_READERS: dict[str, Callable[[Path], Iterable[str]]] = {
    ".txt": _read_plain,
    ".md": _read_plain,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _read_dataset(name: str, config: str | None, split: str, column: str) -> Iterator[str]:
    try:
        for row in stream_rows(name, config, split):
            yield _column(row, column, f"{name}, {split}")
    except TextError:
        raise
    except Exception as error:  # the hub's client raises its own, the network's and plain ones alike
        raise TextError(
            f"Cannot read the data set {name!r}", first_line(error), "Check its name, configuration and the network"
        ) from error


def _column(row: dict[str, Any], column: str, where: str) -> str:
    """Return a row's text, empty where it is null."""
    if column not in row:
        found = f"{where} has {', '.join(map(repr, row)) or 'none'}"
        raise TextError(
            f"Missing column {column!r}", found, "Name the column after the data set and split, or rename it to text"
        )
    return "" if row[column] is None else str(row[column])
