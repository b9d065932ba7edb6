"""cache: what is stored, and what of it goes."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from explorer.cli.verb import verb
from explorer.storage import Holding, choose_evicted, count_rows, evict, read_age, read_size, take_stock
from explorer.verbs import Work

_KINDS = ("model", "arrays", "delta", "training", "scores", "set aside")


@verb
def cache(
    work: Work,
    older_than: Annotated[str, typer.Option(help="Evict what was not used for so long: 12h, 30d, 8w.")] = "",
    larger_than: Annotated[str, typer.Option(help="Evict the longest unused until the rest fits: 5GB, 500MiB.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and keep it.")] = False,
) -> tuple[dict[str, Any], str]:
    """Say what the cache holds, how large and how long unused; evict by age and by size."""
    folder, now = work.settings.cache, time.time()
    age = read_age(older_than) if older_than else None
    size = read_size(larger_than) if larger_than else None
    work.tidy()
    held = take_stock(folder)
    gone = choose_evicted(held, age, size, now)
    if not dry_run:
        evict(gone)
        held = take_stock(folder)
    answer: dict[str, Any] = {
        "folder": str(folder),
        "bytes": sum(each.bytes for each in held),
        "holds": [{"kind": kind, **_sum_up([each for each in held if each.kind == kind])} for kind in _KINDS],
        "models": [_describe(each) for each in held if each.kind == "model"],
        "rows": count_rows(folder),
        "evicted": [_describe(each) for each in gone],
        "dry_run": dry_run,
    }
    lines = [f"{'kind':<12}{'count':>8}{'size':>12}   last used"]
    lines += [
        f"{entry['kind']:<12}{entry['count']:>8,}{_size(entry['bytes']):>12}   {_age(entry['newest'], now)}"
        for entry in answer["holds"]
    ]
    lines += [f"{each.path.name}: {_size(each.bytes)}, {_age(each.used, now)}" for each in held if each.kind == "model"]
    lines += [f"{count:,} rows of {table}" for table, count in answer["rows"].items()]
    word = "would go" if dry_run else "evicted"
    lines += [f"{word}: {each.kind} {each.path.name}, {_size(each.bytes)}" for each in gone]
    return answer, "\n".join(lines)


def _sum_up(held: list[Holding]) -> dict[str, Any]:
    return {
        "count": len(held),
        "bytes": sum(each.bytes for each in held),
        "oldest": min((each.used for each in held), default=None),
        "newest": max((each.used for each in held), default=None),
    }


def _describe(held: Holding) -> dict[str, Any]:
    used = datetime.fromtimestamp(held.used, UTC).isoformat(timespec="seconds")
    return {"kind": held.kind, "name": held.path.name, "bytes": held.bytes, "used": used}


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.2f} MB"


def _age(used: float | None, now: float) -> str:
    if used is None:
        return "–"
    hours = max(0.0, now - used) / 3600
    return f"{hours / 24:.0f} days ago" if hours >= 48 else f"{hours:.0f} hours ago"
