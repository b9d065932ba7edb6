"""A training's folder in the cache: its checkpoints, and what was recorded until each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from explorer.deltas import Origin
from explorer.model import LoadedModel
from explorer.paths import TRAINING
from explorer.storage import Store, make_key

_STATE = "trainer_state.json"
_WEIGHTS = "model.safetensors"
#: What only a training that goes on needs.
_PASSING = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was written whole.

    Args:
        folder: it.
        state: what the Trainer knew: steps, records, which was the best.
    """

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.state["global_step"]

    @property
    def best(self) -> Path:
        """The weights of the best checkpoint up to this."""
        return Path(self.state["best_model_checkpoint"] or self.folder) / _WEIGHTS

    @property
    def best_step(self) -> int:
        """The step of that."""
        return self.state["best_global_step"] or self.step

    @property
    def seconds(self) -> float:
        """What the training took until this, however often it was begun anew."""
        told = [entry["seconds"] for entry in self.state["log_history"] if "seconds" in entry]
        return sum(last for last, after in zip(told, [*told[1:], 0.0], strict=True) if after < last)

    def finish(self) -> None:
        """Let go what only a training that goes on needs."""
        for path in (path for pattern in _PASSING for path in self.folder.glob(pattern)):
            path.unlink(missing_ok=True)


def find_folder(store: Store, loaded: LoadedModel, window: int, origin: Origin) -> Path | None:
    """Return the folder of a training, whether it is there or not; None where nothing is kept on a disk.

    However far the training is to be taken, it has the same folder.
    """
    if store.folder is None:
        return None
    options = tuple(option for option in origin.modifier.options if option[0] != "until")
    whole = replace(origin, modifier=replace(origin.modifier, options=options))
    what = {name: str(part) for name, part in whole.describe().items()}
    context = loaded.numerics_key(loaded.batch_shape.rows(window))
    return store.folder / TRAINING / make_key("training", context=context, **what)


def list_checkpoints(folder: Path) -> Iterator[Checkpoint]:
    """Yield the checkpoints that were written whole, the latest first; the Trainer writes its state last."""
    found = {int(path.name.rpartition("-")[2]): path for path in folder.glob("checkpoint-*")}
    for _, path in sorted(found.items(), reverse=True):
        try:
            made = Checkpoint(path, json.loads((path / _STATE).read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
        if made.best.is_file():
            yield made
