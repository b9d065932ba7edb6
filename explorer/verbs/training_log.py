"""A file of what trains: a line a step, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from explorer.deltas import Delta
from explorer.errors import ModifyError
from explorer.healing import TrainingRecord, Watcher, read_history
from explorer.jsonable import to_json
from explorer.storage import Store

if TYPE_CHECKING:
    from explorer.model import LoadedModel


class TrainingLog(Watcher):
    """Writes each record as soon as it is known.

    Raises ModifyError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: set[str] = set()
        try:
            self._file: TextIO = path.open("w", encoding="utf-8")
        except OSError as error:
            raise self._explain(error) from None

    def record(self, record: TrainingRecord) -> None:
        """Write a line."""
        self._seen.add(record.modifier)
        try:
            print(json.dumps(to_json(record.describe()), allow_nan=False), file=self._file, flush=True)
        except OSError as error:
            raise self._explain(error) from None

    def add_history(self, loaded: LoadedModel, window: int, deltas: Iterable[Delta], store: Store) -> None:
        """Write what was recorded before of trainings that were not run now, and close the file."""
        for delta in deltas:
            if str(delta.modifier) not in self._seen:
                for record in list(read_history(loaded, window, delta.origin, store)):
                    self.record(record)
        self._file.close()

    def _explain(self, error: OSError) -> ModifyError:
        return ModifyError("Cannot write the log", f"{self.path} ({error.strerror})", "Name another file")
