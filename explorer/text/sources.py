"""A text's name -> its documents: a short name, a file, or a data set of the hub."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import TextError, first_line
from explorer.paths import expand_user
from explorer.reading import Unreadable, is_file, opened
from explorer.text.chat_template import Turn
from explorer.text.hub_datasets import stream_rows

DEFAULT_TEXT = "python-docs"
FORMS = (
    "Give python-docs, wikitext2, c4, a file of plain text, .jsonl or .parquet, "
    "hf:DATASET[:CONFIG[:SPLIT[:COLUMN]]] or tokens:FILE.json"
)

#: Short names: dataset, configuration, calibration split, held-out split, column.
_HUB_TEXTS = {
    "wikitext2": ("Salesforce/wikitext", "wikitext-2-raw-v1", "train", "test", "text"),
    "c4": ("allenai/c4", "en", "train", "validation", "text"),
}

#: Reads a text, piece after piece, no further than is asked for; documents have a blank line between them.
Documents = Callable[[], Iterator[str]]

#: Writes turns of a conversation as text. Raises TextError.
Writer = Callable[[Sequence[Turn]], str]

_PIECE, _LONGEST_LINE = 1 << 16, 1 << 25  # characters
_ROWS = 64  # of a Parquet file, read together


@dataclass(frozen=True)
class Text:
    """Documents to decide by and, where the source itself keeps them apart, others to judge by."""

    calibration: Documents
    held_out: Documents | None = None


def find_text(name: str, write: Writer) -> Text:
    """Return the documents that a name stands for; they are read when asked for.

    Args:
        write: makes text of a column that holds conversations.

    Raises:
        TextError: no such text; or, as it is read, not readable, or without a column of text.
    """
    if name == DEFAULT_TEXT:
        return Text(lambda: _joined(_read_python_docs()))
    if name in _HUB_TEXTS:
        dataset, config, calibration, held_out, column = _HUB_TEXTS[name]
        return Text(
            lambda: _joined(_read_dataset(dataset, config, calibration, column, write)),
            lambda: _joined(_read_dataset(dataset, config, held_out, column, write)),
        )
    if name.startswith("hf:"):
        dataset, config, split, column, *_ = [*name.removeprefix("hf:").split(":"), "", "", "", ""]
        if not dataset:
            raise TextError("The data set has no name", repr(name), FORMS)
        return Text(lambda: _joined(_read_dataset(dataset, config or None, split or "train", column or "text", write)))
    path = expand_user(name)
    if not is_file(path):
        raise TextError("No such text", repr(name[:80]), FORMS)
    if path.suffix.lower() in _READERS:
        return Text(lambda: _joined(_READERS[path.suffix.lower()](path, write)))
    return Text(lambda: _read_plain(path))


def _joined(documents: Iterable[str]) -> Iterator[str]:
    """Put a blank line between documents, as the papers do."""
    for number, document in enumerate(documents):
        yield f"\n\n{document}" if number else document


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into a TextError."""
    try:
        yield
    except UnicodeDecodeError as error:
        found = f"{path.name}, {error.reason} at byte {error.start}"
        raise TextError("The text is not UTF-8", found, "Convert it to UTF-8") from None
    except Unreadable as error:
        raise TextError("Cannot read the file", f"{path} ({error})", "Name another file") from None


def _read_python_docs() -> Iterator[str]:
    from pydoc_data.topics import topics

    return (topics[name] for name in sorted(topics))


def _read_plain(path: Path) -> Iterator[str]:
    with reading(path), opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as letters:
        while piece := letters.read(_PIECE):
            if "\0" in piece:
                raise TextError("The file is not text", f"{path.name} has a NUL in it", "Name a file of plain text")
            yield piece


def _read_jsonl(path: Path, write: Writer) -> Iterator[str]:
    with reading(path), opened(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig") as lines:
        number = 0
        while line := lines.readline(_LONGEST_LINE):
            number += 1
            where = f"line {number} of {path.name}"
            if len(line) == _LONGEST_LINE:
                raise TextError("A line is too long", f"{where} has {_LONGEST_LINE} characters or more", "Part it")
            try:
                row = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError):  # also numbers of more digits than Python reads
                raise TextError("Not a line of JSON", where, "Write one JSON object a line") from None
            if row is not None:
                yield _column(row if isinstance(row, dict) else {}, "text", where, write)


def _read_parquet(path: Path, write: Writer) -> Iterator[str]:
    import pyarrow.parquet as parquet

    with reading(path), opened(path) as opened_file:
        try:
            file = parquet.ParquetFile(opened_file)
        except Exception as error:  # what is damaged fails in ways of its own
            found = f"{path.name} ({first_line(error)})"
            raise TextError("Not a Parquet file", found, "Write it again as Parquet") from None
        _column(dict.fromkeys(file.schema_arrow.names), "text", path.name, write)
        kind = file.schema_arrow.field("text").type
        if not _may_be_text(kind):
            raise _not_text("text", str(kind), path.name)
        rows = _rows(file, path.name)
        yield from (_column({"text": row}, "text", path.name, write) for row in rows if row is not None)


def _may_be_text(kind: Any) -> bool:
    """Tell whether a column of Arrow's type can hold text, or conversations."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    inner = getattr(kind, "value_type", None)
    turns = inner is not None and types.is_struct(inner) and {"role", "content"} <= {field.name for field in inner}
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return turns or any(is_kind(kind) for is_kind in texts)


def _rows(file: Any, name: str) -> Iterator[Any]:
    """Read the column of text of a Parquet file, some rows at a time."""
    try:
        batches = file.iter_batches(batch_size=_ROWS, columns=["text"])
        for batch in batches:
            yield from batch.column(0).to_pylist()
    except Exception as error:
        raise TextError("The Parquet file is damaged", f"{name} ({first_line(error)})", "Write it again") from None


_READERS: dict[str, Callable[[Path, Writer], Iterator[str]]] = {".jsonl": _read_jsonl, ".parquet": _read_parquet}


def _read_dataset(name: str, config: str | None, split: str, column: str, write: Writer) -> Iterator[str]:
    try:
        for row in stream_rows(name, config, split):
            yield _column(row, column, f"{name}, {split}", write)
    except TextError:
        raise
    except Exception as error:  # the hub's client raises its own, the network's and plain ones alike
        raise TextError(
            f"Cannot read the data set {name!r}", first_line(error), "Check its name, configuration and the network"
        ) from error


def _column(row: dict[str, Any], column: str, where: str, write: Writer) -> str:
    """Return a row's text, empty where it is null; a conversation is written by the model's chat template."""
    if column not in row:
        found = f"{where} has {', '.join(map(repr, row)) or 'none'}"
        raise TextError(
            f"Missing column {column!r}", found, "Name the column after the data set and split, or rename it to text"
        )
    value = row[column]
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, list) and value and all(map(_is_turn, value)):
        return write(value)
    raise _not_text(column, "objects" if isinstance(value, dict) else f"a {type(value).__name__}", where)


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(name), str) for name in ("role", "content"))


def _not_text(column: str, kind: str, where: str) -> TextError:
    return TextError(
        f"The column {column!r} holds no text",
        f"{where} has {kind}",
        "Name a column of text, or of conversations: lists of {role, content}",
    )
