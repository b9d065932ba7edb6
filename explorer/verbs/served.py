"""What a verb works with on an engine: the task's one model, its texts, its store."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from explorer.execution import Request, Task
from explorer.model import LoadedModel
from explorer.text import Corpus
from explorer.verbs.work import Settings, Work


class Served(Work):
    """A verb's work as a task. The task opens and closes what it needs."""

    def __init__(self, task: Task) -> None:
        super().__init__(set_up(task.request, task.resident.cache))
        self._task = task
        self.store, self.progress = task.store, task.progress

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model in memory."""
        return self._task.loaded

    def cut(self, text: str, calibration: Mapping[str, float] = {}, calibration_tokens: int = 0) -> Corpus:
        """Cut a text, or find it cut."""
        return self._task.cut(text, calibration, calibration_tokens)

    def names_file(self, given: str) -> bool:
        """Never: who asks names plans and modifiers."""
        return False


def set_up(request: Request, folder: Path) -> Settings:
    """Return the shared options of the command line that say the same as a request, over a cache folder."""
    return Settings(
        model=request.model.model, dtype=request.model.dtype, device=request.model.device,
        quantize=request.model.quantize, stream=request.model.stream,
        trust_remote_code=request.model.trust_remote_code,
        text=request.text.name, tokens=request.text.tokens, window=request.text.window, bos=request.text.bos,
        calibration=list(request.calibration.names), calibration_tokens=request.calibration.tokens, cache=folder,
    )  # fmt: skip
