"""jobs: what a running dashboard works on, whoever asked for it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from explorer.cli.verb import verb
from explorer.errors import ExplorerError, shorten
from explorer.progress import Progress
from explorer.verbs import Work

_PAUSE = 2.0  # seconds until another stream is asked for
_PATIENCE = 30.0  # seconds that an answer may take, twice as long as a stream is silent
_EVENT = b"data: "
_OWNERS = {"browser": "a browser", "api": "a program"}
_ACTIVE = ("queued", "running", "paused")


class ServerError(ExplorerError):
    """No dashboard answers, or it refuses what it is asked."""


@verb
def jobs(
    work: Work,
    server: Annotated[str, typer.Option(help="Address of the dashboard.")] = "http://127.0.0.1:8501",
    token: Annotated[str, typer.Option(help="Its token, where it asks for one.", envvar="EXPLORER_TOKEN")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Follow them until none is left.")] = False,
    cancel: Annotated[str, typer.Option(help="Key of a job to stop, unless a browser waits for it.")] = "",
) -> tuple[dict[str, Any], str]:
    """List what a running dashboard works on, in the order in which it runs, and what it has done for programs."""
    dashboard = _Dashboard(server, token)
    if cancel:
        dashboard.send("DELETE", f"/api/jobs/{quote(cancel, safe='')}")
    found = dashboard.list_jobs()
    while watch and _count_active(found):
        dashboard.follow(found, work.progress)
        if _count_active(found := dashboard.list_jobs()):  # one more came, or the stream was cut
            time.sleep(_PAUSE)
    lines = [f"{'state':<10}{'done':>6}{'left':>8}  {'for':<10}{'key':<34}what"]
    return {"server": server, "jobs": found}, "\n".join([*lines, *map(_describe, found)])


def _count_active(found: Iterable[dict[str, Any]]) -> int:
    return sum(job["state"] in _ACTIVE for job in found)


def _show(found: list[dict[str, Any]], progress: Progress) -> None:
    """Show how far the job is that runs."""
    running = next((job for job in found if job["state"] == "running"), found[0])
    waiting = _count_active(found) - 1
    more = f" ({waiting} more)" if waiting else ""
    progress(running["done"], running["total"], f"{running['title']}: {running['what']}{more}")


def _describe(job: dict[str, Any]) -> str:
    """Describe a job in a line."""
    done = f"{job['done'] / job['total']:.0%}" if job["total"] and job["state"] in _ACTIVE else ""
    left = "" if job["left"] is None else f"{job['left']:,.0f} s"
    what = f"{job['title']}: {job['error']}" if job["error"] else job["title"]
    return f"{job['state']:<10}{done:>6}{left:>8}  {_OWNERS[job['owner']]:<10}{job['key']:<34}{what}"


class _Dashboard:
    """A dashboard's HTTP API; see docs/api.md.

    Raises ServerError: the address is none, nobody answers there, or what is asked is refused.
    """

    def __init__(self, server: str, token: str) -> None:
        self.server = server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        if urlsplit(server).scheme not in ("http", "https"):
            raise ServerError(
                "No address of a dashboard", shorten(repr(server), 60), "Give one such as http://HOST:8501"
            )

    def list_jobs(self) -> list[dict[str, Any]]:
        """Return its jobs."""
        return self.send("GET", "/api/jobs")["jobs"]

    def follow(self, found: Iterable[dict[str, Any]], progress: Progress) -> None:
        """Show how jobs get on, until the server says of the last one that it has ended, or ends the stream."""
        known = {job["key"]: job for job in found}
        with self._asking("GET", "/api/jobs?stream=1") as stream:
            for line in stream:
                if line.startswith(_EVENT):
                    job = json.loads(line.removeprefix(_EVENT))
                    known[job["key"]] = job
                    if not _count_active(known.values()):
                        return
                    _show([*known.values()], progress)

    def send(self, method: str, path: str) -> dict[str, Any]:
        """Ask it for something."""
        with self._asking(method, path) as answer:
            return json.load(answer)

    @contextmanager
    def _asking(self, method: str, path: str) -> Iterator[HTTPResponse]:
        asked = urllib.request.Request(self.server + path, headers=self._headers, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=_PATIENCE) as answer:
                yield answer
        except urllib.error.HTTPError as error:
            raise self._explain(error) from None
        except (OSError, ValueError, HTTPException) as error:  # a URLError is an OSError; what is no JSON, a ValueError
            found = f"{self.server} ({getattr(error, 'reason', None) or type(error).__name__})"
            raise ServerError("No dashboard answers", found, "Start it with 'make run', or name its --server") from None

    def _explain(self, error: urllib.error.HTTPError) -> ServerError:
        try:
            said = json.load(error)["error"]
        except (OSError, ValueError, KeyError, TypeError):
            said = f"status {error.code}"
        remedy = "Give its --token" if error.code == 401 else "See docs/api.md"
        return ServerError("The dashboard refuses", shorten(said, 200).rstrip("."), remedy)
