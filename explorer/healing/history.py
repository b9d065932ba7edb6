"""What was recorded of a training that is done, or was stopped."""

from __future__ import annotations

from collections.abc import Iterator

from explorer.deltas import Origin
from explorer.healing.runs import find_folder, list_checkpoints
from explorer.healing.watcher import TrainingRecord, read_record
from explorer.model import LoadedModel
from explorer.storage import Store


def read_history(loaded: LoadedModel, window: int, origin: Origin, store: Store) -> Iterator[TrainingRecord]:
    """Yield the records up to the last checkpoint of each training that a modifier makes.

    Args:
        loaded: the model.
        window: ids in the calibration windows.
        origin: of the delta.
        store: where trainings are kept.
    """
    folder = find_folder(store, loaded, window, origin)
    for part in sorted(folder.iterdir(), key=lambda path: int(path.name)) if folder and folder.is_dir() else ():
        last = next(list_checkpoints(part), None)
        state = last.state if last else {"log_history": []}
        for entry in state["log_history"]:
            if record := read_record(str(origin.modifier), int(part.name), state["max_steps"], entry):
                yield record
