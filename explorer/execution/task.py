"""What a request is worked on with: the one model in memory, the texts as windows, the store, the job."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import Any

from explorer.deltas import Variant, read_modifiers
from explorer.execution.job import Job
from explorer.execution.request import Request
from explorer.execution.resident_model import Resident
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.modifiers import modify
from explorer.storage import Store
from explorer.text import Corpus, read_mixture


class Task:
    """A request being worked on, from the start of a `with` block to its end.

    Args:
        request: what is asked.
        job: which does it.
        resident: the model in memory, and its texts.
    """

    def __init__(self, request: Request, job: Job, resident: Resident) -> None:
        self.request, self.job, self.resident = request, job, resident
        self._open = ExitStack()

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def store(self) -> Store:
        """Where results are kept."""
        return self.resident.store

    def progress(self, done: int, total: int, what: str) -> None:
        """Tell how far the work is; see `progress.Progress`."""
        self.job.progress(done, total, what)

    def show(self, partial: Any) -> None:
        """Show an unfinished result."""
        self.job.show(partial)

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model in memory; from here on others may run inside the job."""
        loaded = self.resident.load(self.request.model, self.request.texts, self.progress)
        self.job.preemptible = True
        self._open.enter_context(loaded.wrappers.checking(self.job.check))
        return loaded

    @cached_property
    def corpus(self) -> Corpus:
        """The text as windows, with those that are decided by."""
        calibration = self.request.calibration
        return self.cut(self.request.text.name, read_mixture(calibration.names), calibration.tokens)

    def cut(self, text: str, calibration: Mapping[str, float] = {}, calibration_tokens: int = 0) -> Corpus:
        """Cut a text as the request says, or find it cut."""
        asked = self.request.text
        how = (calibration, calibration_tokens, asked.bos)
        return self.resident.cut(self.loaded, text, asked.tokens, asked.window, *how)

    def vary(self, mask: str, modifiers: str) -> Mask | Variant:
        """Return a mask with what makes up for it, made or found in the store; the mask alone where nothing does.

        Raises ModifyError, Cancelled: see `modifiers.modify`.
        """
        off, specs = Mask.parse(mask), read_modifiers(modifiers)
        return modify(self.loaded, self.corpus, off, specs, self.store, self.progress).plain if specs else off
