"""The tables of the database, and how those of an earlier layout become them."""

from __future__ import annotations

import sqlite3

#: Raised when a table below changes; a database of another layout is brought to this one, or set aside. One more table
#: needs no other layout: whoever does not know it leaves it alone.
LAYOUT = 3

#: What is not finite is NULL.
_TABLES = (
    "nll (context TEXT, window TEXT, mask TEXT, nll REAL, PRIMARY KEY (context, window, mask))",
    "overflows (context TEXT, window TEXT, mask TEXT, layer INTEGER NOT NULL, PRIMARY KEY (context, window, mask))",
    "divergences (context TEXT, window TEXT, mask TEXT, kl REAL, logit_l2 REAL, "
    "top1_matches REAL, PRIMARY KEY (context, window, mask))",
    "variants (variant TEXT PRIMARY KEY, modifiers TEXT NOT NULL, zeros INTEGER NOT NULL, added INTEGER NOT NULL)",
    "stars (model TEXT, text TEXT, variant TEXT, starred INTEGER NOT NULL, name TEXT NOT NULL, "
    "PRIMARY KEY (model, text, variant))",
    "asked (key TEXT, holder TEXT, request TEXT NOT NULL, owner TEXT NOT NULL, title TEXT NOT NULL, "
    "begun REAL NOT NULL, tries INTEGER NOT NULL, PRIMARY KEY (key, holder))",
    "files (path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest TEXT NOT NULL)",
)

#: What brings a database of an earlier layout to the next one.
_MIGRATIONS = {
    2: (
        "ALTER TABLE nats RENAME COLUMN nats TO nll",
        "ALTER TABLE nats RENAME TO nll",
        "ALTER TABLE divergences RENAME COLUMN distance TO logit_l2",
        "ALTER TABLE divergences RENAME COLUMN agreeing TO top1_matches",
    ),
}


class OtherLayout(Exception):
    """A database whose tables are of another version."""


def lay_out(db: sqlite3.Connection) -> None:
    """Make the tables, or bring them to this layout. Raises OtherLayout where that is not possible."""
    db.execute("BEGIN IMMEDIATE")
    layout = db.execute("PRAGMA user_version").fetchone()[0]
    if layout != LAYOUT and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        if any(earlier not in _MIGRATIONS for earlier in range(layout, LAYOUT)) or layout > LAYOUT:
            raise OtherLayout(layout)
        for earlier in range(layout, LAYOUT):
            for change in _MIGRATIONS[earlier]:
                db.execute(change)
    for table in _TABLES:
        db.execute(f"CREATE TABLE IF NOT EXISTS {table} WITHOUT ROWID")
    db.execute(f"PRAGMA user_version={LAYOUT}")
    db.execute("COMMIT")
