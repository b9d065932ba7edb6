"""What servers were asked and have not finished: one that starts takes up what those that have ended left.

Who works on it is a file that its process holds locked as long as it lives, as in `partial_files`.
"""

from __future__ import annotations

import os
import time
import weakref
from dataclasses import dataclass

from explorer.storage.partial_files import make_partial, remove_leftovers
from explorer.storage.store import Store

#: Seconds after which nobody waits any more.
LASTING = 86400.0

_TRIES = 3  # servers that may end over one


@dataclass(frozen=True)
class Asked:
    """What was asked.

    Args:
        key: of it.
        request: as JSON.
        owner: who asked, `api` or `browser`.
        title: what it is, in words.
    """

    key: str
    request: str
    owner: str
    title: str


class Unfinished:
    """What was asked of a server, and of others over the same store, for as long as it is not finished.

    Args:
        store: in a folder.
    """

    def __init__(self, store: Store) -> None:
        assert store.folder is not None
        self._store, self._folder = store, store.folder / "servers"
        self._folder.mkdir(exist_ok=True)
        path, lock = make_partial(self._folder)
        self._own = path.name
        self.leave = weakref.finalize(self, os.close, lock)  #: have others take up what is left here

    def note(self, asked: Asked) -> None:
        """Note what was asked."""
        row = (asked.key, self._own, asked.request, asked.owner, asked.title, time.time(), 1)
        with self._store._transaction() as db:
            db.execute("INSERT OR REPLACE INTO asked VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def strike(self, key: str) -> None:
        """Strike out what has ended."""
        with self._store._transaction() as db:
            db.execute("DELETE FROM asked WHERE key=? AND holder=?", (key, self._own))

    def take_up(self) -> list[Asked]:
        """Take over, and return, what servers that have ended left unfinished within a day.

        Of several servers that start at once one takes it. What another works on too is not taken, and what several
        servers have ended over is struck out.
        """
        taken = []
        with self._store._transaction() as db:
            remove_leftovers(self._folder)
            there = {path.name for path in self._folder.iterdir()}
            rows = db.execute("SELECT * FROM asked ORDER BY begun").fetchall()
            held = {key for key, holder, *_ in rows if holder in there}
            for key, holder, request, owner, title, begun, tries in rows:
                if holder in there:
                    continue
                db.execute("DELETE FROM asked WHERE key=? AND holder=?", (key, holder))
                if key not in held and time.time() - begun < LASTING and tries < _TRIES:
                    held.add(key)
                    row = (key, self._own, request, owner, title, begun, tries + 1)
                    db.execute("INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                    taken.append(Asked(key, request, owner, title))
        return taken
