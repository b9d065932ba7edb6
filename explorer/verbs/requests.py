"""Requests to an engine: each is a job that goes on whoever listens, its result the answer as JSON text."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from explorer.errors import ExplorerError
from explorer.execution import API, IDLE, PAGE_KINDS, SAMPLE, SWEEP, Engine, Job, Stamp, stamp
from explorer.storage import Asked
from explorer.verbs.request import Request

_MOST_ACTIVE = 1000
_MOST_ENDED, _MOST_CHARACTERS = 256, 2**26  # of answers that are kept

#: Verbs that are soon through and go before the others.
_BRIEF = ("info", "generate")


class TooMany(ExplorerError):
    """More is waiting than may wait."""


@dataclass(frozen=True)
class _Asked:
    """A request's job, the files that its names stood for, and who asked first."""

    job: Job
    files: tuple[Stamp, ...]
    owner: str


class Requests:
    """What an engine was asked, and the answers, the latest of them. Any thread may ask.

    Args:
        engine: that works on it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._lock = threading.Lock()

    def ask(self, request: Request) -> Job:
        """Return the job of a request: that of an equal one, unless it failed, was cancelled, or files have changed.

        Raises TooMany.
        """
        own = Asked(request.key, request.write(), API, request.title)
        return self._ask(request, SAMPLE if request.kind in _BRIEF else SWEEP, own)

    def take_up(self, check: Callable[[Request], None]) -> None:
        """Ask again what servers that have ended left unfinished; it is done when nothing else is.

        Args:
            check: raises an ExplorerError for what may not be asked.
        """
        for left in self.engine.unfinished.take_up():
            try:
                request = Request.read(left.request, of_programs=False)
                check(request)
                of_page = request.kind in PAGE_KINDS
                job = self.engine.take_up(request, left) if of_page else self._ask(request, IDLE, left)
                struck = job.noted != left.key
            except ExplorerError as error:
                print(f"Not taken up: {left.title}: {error}", file=sys.stderr)
                struck = True
            if struck:
                self.engine.unfinished.strike(left.key)

    def _ask(self, request: Request, priority: int, asked_for: Asked) -> Job:
        key, engine = request.key, self.engine
        files = tuple(map(stamp, (request.model.model, *request.texts)))
        with self._lock:
            asked = self._asked.get(key)
            if asked is None or not asked.job.at_hand or asked.files != files:
                if sum(each.job.active for each in self._asked.values()) >= _MOST_ACTIVE:
                    raise TooMany("Too much is waiting", f"{_MOST_ACTIVE} requests", "Ask again when some are through")
                if asked is not None:
                    asked.job.noted = ""  # what is asked now is noted in its place
                engine.worker.begin_page(API)
                job = engine.start(API, key, key, request, asked_for.title, priority, anew=True)
                asked = self._asked[key] = _Asked(job, files, asked_for.owner)
                if request.kind not in _BRIEF:
                    engine.note(job, asked_for)
            engine.worker.hasten(asked.job, priority)
            self._asked.move_to_end(key)
            self._forget()
            return asked.job

    def _forget(self) -> None:
        """Forget what ended longest ago, where more is kept than may be."""
        ended = [key for key, each in self._asked.items() if not each.job.active]
        characters = [len(self._asked[key].job.result or "") for key in ended]
        for place, key in enumerate(ended):
            if len(ended) - place > _MOST_ENDED or sum(characters[place:]) > _MOST_CHARACTERS:
                del self._asked[key]

    def find(self, key: str) -> Job | None:
        """Return the job of a request's key, if it is remembered."""
        asked = self._asked.get(key)
        return None if asked is None else asked.job

    def tell_owner(self, job: Job) -> str:
        """Tell who asked for a job first: `api` or `browser`."""
        asked = self._asked.get(job.key)
        return asked.owner if asked is not None and asked.job is job else "browser"

    def list(self) -> list[Job]:
        """Return what is active, whoever asked, in the order in which it runs; then what is kept of what has ended."""
        active = self.engine.worker.waiting()
        with self._lock:
            return active + [each.job for each in self._asked.values() if not each.job.active]
