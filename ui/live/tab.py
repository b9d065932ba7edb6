"""A browser's tab: which jobs its page shows, and what the page has not been told of them yet. Knows no Streamlit."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from explorer.execution import Job
from ui.live.feed import Feed

LATER = 1.0  # seconds that panels which a callback has run wait for the panel of its widget to begin
PACE = 0.5  # seconds between two runs of a panel while a job gets on; its end is told at once
STREAMS, POLLS = 5.0, 90.0  # seconds that a tab counts as there after its stream broke off; after it asked by itself

_PAGE = 0  # the number by which the browser knows the page itself, as panels have one
_serials = itertools.count(1)
Data = dict[str, Any]


@dataclass(eq=False)
class Painting:
    """What a component shows, described anew whenever one of some jobs gets on.

    Args:
        panel: in which it was drawn; it is gone when that is drawn anew.
        jobs: those that it shows; None for all that there are.
        describe: gives its data, from any thread.
        pace: seconds between two descriptions; of some jobs only until one of them ends.
        shown: what the browser was told last.
        late: whether a job got on while it was described for the first time.
        serial: later ones have a greater one.
    """

    panel: str
    jobs: frozenset[Job] | None
    describe: Callable[[], Data]
    pace: float
    shown: Data = field(default_factory=dict)
    late: bool = False
    serial: int = field(default_factory=_serials.__next__)

    def shows(self, job: Job) -> bool:
        """Tell whether it shows a job."""
        return self.jobs is None or job in self.jobs

    def look(self) -> Data:
        """Describe it anew; return what has changed since the browser was told last."""
        seen = self.describe()
        changed = {name: value for name, value in seen.items() if name not in self.shown or self.shown[name] != value}
        self.shown = seen
        return changed


@dataclass(frozen=True)
class Watch:
    """When a panel runs again for a job.

    Args:
        pace: seconds between two runs while it gets on; None: only when it has ended.
        begins: whether also when it begins, or goes on.
        result: whether also when it has a result; without, only when it ended with none.
    """

    pace: float | None = None
    begins: bool = False
    result: bool = True

    def __or__(self, other: Watch) -> Watch:
        """Return when it runs again if both are wanted."""
        paces = [pace for pace in (self.pace, other.pace) if pace is not None]
        return Watch(min(paces, default=None), self.begins or other.begins, self.result or other.result)

    def find_pace(self, job: Job, moved: bool) -> float | None:
        """Return the seconds after the last run that a change of a job waits for; None if it has nothing run."""
        if not moved:
            return self.pace
        if job.active:
            return PACE if self.begins or self.pace is not None else None
        return 0.0 if self.result or job.state != "done" else None


@dataclass
class News:
    """What a tab is told.

    Args:
        panels: those that are to run again: their numbers, and those of their last runs, which do not count.
        paintings: those that are to be described again, by their keys.
        runs: the last run of each panel that may run, by numbers; what the browser has to say may be old until it has
            heard of them, and what it does not hear of is lost.
    """

    panels: list[tuple[int, int]] = field(default_factory=list)
    paintings: dict[str, Painting] = field(default_factory=dict)
    runs: list[tuple[int, int]] = field(default_factory=list)


class Tab:
    """What one tab's page shows. Changes come from any thread.

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.feed = Feed()
        self._clock, self._lock = clock, threading.Lock()
        self._watched: dict[str, dict[Job, Watch]] = {}  # by panel
        self._paintings: dict[str, Painting] = {}
        self._described: list[Painting] = []  # for the page that is being drawn: nothing is told of them yet
        self._page = 0  # the page's last run
        self._numbers: dict[str, int] = {}  # panels by name; the browser knows them by number
        self._runs: dict[str, int] = {}  # the last runs of panels
        self._due: dict[str, float] = {}  # panel -> when it is to run again
        self._following: set[str] = set()  # panels that are to run after the next one
        self._stale: dict[str, float] = {}  # painting -> when it is to be described again
        self._told: dict[str, float] = {}  # when a panel was last told to run, a painting last described
        self._dialog: frozenset[str] | None = None
        self._heard, self._grace = clock(), POLLS
        self._listener: object | None = None  # the stream that its browser listens to

    @property
    def there(self) -> bool:
        """Whether somebody looks at it, or did a moment ago."""
        return self._listener is not None or self.silent < self._grace

    @property
    def silent(self) -> float:
        """Seconds since it was last heard of."""
        return self._clock() - self._heard

    def hear(self) -> None:
        """Note that its browser asked for something."""
        self._heard, self._grace = self._clock(), POLLS

    def begin_stream(self) -> object:
        """Note that its browser listens to a stream from now on, and to none before; return what stands for it."""
        with self._lock:
            self._listener = object()
            return self._listener

    def listens_to(self, stream: object) -> bool:
        """Tell whether its browser listens to a stream."""
        return self._listener is stream

    def end_stream(self, stream: object | None = None) -> None:
        """Note that a stream to its browser has ended, or whichever there is."""
        with self._lock:
            if stream is None or self.listens_to(stream):
                self._listener = None
                self._heard, self._grace = self._clock(), STREAMS

    def begin_page(self) -> dict[str, int]:
        """Forget all that the page before showed; return the numbers of what runs with the whole page."""
        with self._lock:
            for table in (self._watched, self._paintings, self._due, self._stale, self._told):
                table.clear()
            self._following.clear()
            self._dialog = None
            self._page = next(_serials)
            return {"panel": _PAGE, "run": self._page, "page": self._page}

    def begin_panel(self, panel: str) -> dict[str, int]:
        """Forget what a panel showed, for it is drawn anew; return its number, its run's and the page's."""
        with self._lock:
            self._watched[panel] = {}
            self._due.pop(panel, None)
            self._following.discard(panel)
            following, now = set(self._following), self._clock()
            self._due |= dict.fromkeys(following, now)
            self._following.clear()
            for key in [key for key, painting in self._paintings.items() if painting.panel == panel]:
                del self._paintings[key]
                self._stale.pop(key, None)
            run = self._runs[panel] = next(_serials)
            numbers = {"panel": self._numbers.setdefault(panel, len(self._numbers) + 1), "run": run, "page": self._page}
        if following:
            self.feed.changed()
        return numbers

    def open_dialog(self, panels: Collection[str]) -> None:
        """Have no panels run but these of a dialog, until the page is drawn anew.

        A run of the page takes away what is being typed into it.
        """
        with self._lock:
            self._dialog = frozenset(panels)

    def watch(self, panel: str, job: Job, when: Watch) -> None:
        """Have a panel run again for a job."""
        with self._lock:
            watched = self._watched.setdefault(panel, {})
            watched[job] = watched[job] | when if job in watched else when

    def paint(self, key: str, painting: Painting) -> Data:
        """Return what a component shows, and have its changes told from now on, in place of what it showed before."""
        with self._lock:
            self._described.append(painting)
        try:
            data = painting.look()
        finally:
            with self._lock:
                self._described.remove(painting)
        with self._lock:
            self._paintings[key] = painting
            self._stale.pop(key, None)
            if painting.late:
                self._stale[key] = self._clock()
        if painting.late:
            self.feed.changed()
        return data

    def rerun(self, panels: Collection[str], following: bool = False) -> None:
        """Have panels run again, by name; those that the page lacks are left out.

        Args:
            panels: their names.
            following: only after the next one that begins, for a callback: that is the one of its widget.
        """
        with self._lock:
            self._due |= dict.fromkeys(panels, self._clock() + (LATER if following else 0.0))
            self._following |= set(panels) if following else set()
        self.feed.changed()

    def changed(self, job: Job, moved: bool) -> None:
        """Take note that a job got on, perhaps to another state."""
        now, touched = self._clock(), False
        with self._lock:
            for panel, watched in self._watched.items():
                if job in watched and (pace := watched[job].find_pace(job, moved)) is not None:
                    touched |= self._put(self._due, panel, now, pace)
            for painting in self._described:
                painting.late |= painting.shows(job)
            for key, painting in self._paintings.items():
                if painting.shows(job):
                    pace = 0.0 if moved and not job.active and painting.jobs is not None else painting.pace
                    touched |= self._put(self._stale, key, now, pace)
        if touched:
            self.feed.changed()

    def _put(self, table: dict[str, float], name: str, now: float, pace: float) -> bool:
        """Note that something is due a pace after it was last told; an earlier time wins, and False says so."""
        at = max(now, self._told.get(name, 0.0) + pace)
        if at >= table.get(name, math.inf):
            return False
        table[name] = at
        return True

    def catch_up(self) -> None:
        """Have everything told again: what was told last may not have been heard."""
        with self._lock:
            now = self._clock()
            self._due = dict.fromkeys(self._watched, now)
            self._stale = dict.fromkeys(self._paintings, now)
            for painting in self._paintings.values():
                painting.shown = {}

    def wait_for(self) -> float | None:
        """Return in how many seconds something is due; None if nothing is."""
        with self._lock:
            at = min((*self._due.values(), *self._stale.values()), default=None)
        return None if at is None else max(0.0, at - self._clock())

    def take(self, stream: object | None = None) -> News:
        """Take what is due, for a stream, or for a browser that asks and has none; nothing if it listens elsewhere."""
        with self._lock:
            if not self.listens_to(stream):
                return News()
            now = self._clock()
            panels = [panel for panel, at in self._due.items() if at <= now]
            stale = [key for key, at in self._stale.items() if at <= now]
            for table, names in ((self._due, panels), (self._stale, stale)):
                for name in names:
                    del table[name]
            self._told |= dict.fromkeys([*panels, *stale], now)
            allowed = self._watched if self._dialog is None else self._dialog
            runs = {panel: (self._numbers[panel], run) for panel, run in self._runs.items() if panel in allowed}
            return News(
                [runs[panel] for panel in panels if panel in runs],
                {key: self._paintings[key] for key in stale},
                list(runs.values()),
            )
