"""Who wants which job: named slots of owners, the pages they are on, and those who have left.

Nothing here locks; the worker does.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterable

from explorer.execution.job import Job

#: The owner of what programs asked: it never leaves, and what it alone holds anybody may stop.
API = "api"

Holder = tuple[str, str]  # an owner and the slot


class Owners:
    """What each owner holds.

    Args:
        alive: tells whether an owner is still there.
    """

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._slots: dict[Holder, Job] = {}
        self._declined: set[Holder] = set()  # owners and keys
        self._asked: dict[str, set[str]] = {}
        self._pages: dict[str, str] = {}
        self._left: dict[str, float] = {}  # who is gone, and when that was seen

    def hold(self, owner: str, slot: str, job: Job) -> None:
        """Put a job into a slot, in place of what is there."""
        self._asked.setdefault(owner, set()).add(slot)
        holder = owner, slot
        before = self._slots.get(holder)
        if before is job:
            return
        if before is not None:
            self._drop(holder, before)
        self._slots[holder] = job
        job.owners.add(holder)

    def _drop(self, holder: Holder, job: Job) -> None:
        job.owners.discard(holder)
        if job.active and not job.owners:
            job.cancel()

    def _empty(self, owners: Iterable[Holder]) -> None:
        for holder in list(owners):
            self._drop(holder, self._slots.pop(holder))

    def release(self, owner: str, slots: Iterable[str]) -> None:
        """Empty some slots of an owner."""
        self._empty((owner, slot) for slot in slots if (owner, slot) in self._slots)

    def cancel_for(self, owner: str, job: Job) -> None:
        """Let go of a job wherever the owner holds it, and note that it is not wanted."""
        self._declined.add((owner, job.key))
        self._empty([holder for holder, held in self._slots.items() if held is job and holder[0] == owner])

    def retry(self, owner: str, job: Job) -> None:
        """Take back `cancel_for`."""
        self._declined.discard((owner, job.key))

    def declines(self, owner: str, key: str) -> bool:
        """Tell whether an owner does not want the job of a key."""
        return (owner, key) in self._declined

    def begin_page(self, owner: str, page: str) -> None:
        """Note from here on which slots an owner's page asks for."""
        self._asked[owner], self._pages[owner] = set(), page

    def end_page(self, owner: str, keep: frozenset[str]) -> None:
        """Empty the slots that the owner's page did not ask for, but for those to keep."""
        wanted = self._asked.pop(owner, set()) | keep
        self._empty([holder for holder in self._slots if holder[0] == owner and holder[1] not in wanted])

    def page_of(self, owner: str) -> str:
        """Return the page that an owner is on, or an empty text."""
        return self._pages.get(owner, "")

    def reap(self) -> None:
        """Let go of what owners who left were holding, once the patience of each job is over."""
        now = time.monotonic()
        known = {owner for owner, _ in (*self._slots, *self._declined)} | self._asked.keys() | self._pages.keys()
        gone = {owner for owner in known if not self.is_there(owner)}
        self._left = {owner: self._left.get(owner, now) for owner in gone}
        self._empty(
            [
                (owner, slot)
                for (owner, slot), job in self._slots.items()
                if (owner in gone and (not job.active or now - self._left[owner] >= job.patience))
                or (owner == API and not job.active)
            ]
        )
        self._declined = {entry for entry in self._declined if entry[0] not in gone}
        for owner in gone:
            self._asked.pop(owner, None)
            self._pages.pop(owner, None)

    def is_there(self, owner: str) -> bool:
        """Tell whether an owner has not left."""
        try:
            return owner == API or self._alive(owner)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return True

    def is_orphan(self, job: Job) -> bool:
        """Tell whether a job goes on though all who wanted it have left."""
        return job.active and not any(self.is_there(owner) for owner, _ in list(job.owners))

    def can_dismiss(self, job: Job) -> bool:
        """Tell whether anybody may stop a job: no browser that is there wants it."""
        return job.active and not any(owner != API and self.is_there(owner) for owner, _ in list(job.owners))

    def dismiss(self, job: Job) -> None:
        """Let go of a job that anybody may stop."""
        if self.can_dismiss(job):
            self._empty([holder for holder, held in self._slots.items() if held is job])
