"""What a request is worked on with: the one model in memory, the texts as windows, the store, the job."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property

from explorer.deltas import Variant, read_modifiers
from explorer.execution.job import Job
from explorer.execution.request import Request
from explorer.execution.resident_model import Resident
from explorer.masks import Mask
from explorer.model import LoadedModel
from explorer.modifiers import modify
from explorer.text import Corpus, read_mixture


class Task:
    """A request being worked on, until it is closed.

    Args:
        request: what is asked.
        job: which does it.
        resident: the model in memory, and its texts.
    """

    def __init__(self, request: Request, job: Job, resident: Resident) -> None:
        self.request, self.job, self.resident = request, job, resident
        self.store, self.progress, self.show = resident.store, job.progress, job.show
        self._open = ExitStack()

    def close(self) -> None:
        """Let the model go."""
        self._open.close()

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
