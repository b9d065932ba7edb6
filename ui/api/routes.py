"""The routes: what is asked over HTTP, and the status that says what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as Asked
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from explorer.errors import ExplorerError
from explorer.execution import Job
from explorer.verbs import Request, Requests, TooMany
from ui.api.document import describe_routes
from ui.api.job_state import describe
from ui.api.stream import MOST, stream_jobs, wants_stream
from ui.live import FEED, get_requests
from ui.view import NoName, Permissions, get_permissions

_LARGEST = 2**20  # bytes of a request
_FRESH = {"Cache-Control": "no-store"}


class Refused(ExplorerError):
    """The request names what no request may have this server read."""


def make_routes(
    stopping: Callable[[], bool],
    get_requests: Callable[[], Requests] = get_requests,
    get_permissions: Callable[[], Permissions] = get_permissions,
) -> list[Route]:
    """Return the routes of the API.

    Args:
        stopping: tells whether the server is going down.
        get_requests: returns what the server's engine was asked.
        get_permissions: returns what may be read.
    """
    api = _Api(stopping, get_requests, get_permissions)
    return [
        Route("/api/requests", api.ask, methods=["POST"]),
        Route("/api/jobs", api.list_jobs, methods=["GET"]),
        Route("/api/jobs/{key}", api.show_job, methods=["GET"]),
        Route("/api/jobs/{key}", api.stop_job, methods=["DELETE"]),
        Route("/api/results/{key}", api.show_result, methods=["GET"]),
        Route("/api/openapi.json", lambda asked: JSONResponse(describe_routes()), methods=["GET"]),
    ]


@dataclass(frozen=True)
class _Api:
    stopping: Callable[[], bool]
    get_requests: Callable[[], Requests]
    get_permissions: Callable[[], Permissions]

    async def ask(self, asked: Asked) -> Response:
        if asked.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return _fail(415, "The request is not sent as JSON: no such Content-Type. Send application/json.")
        body = b""
        async for part in asked.stream():
            body += part
            if len(body) > _LARGEST:
                return _fail(413, f"The request is too large: more than {_LARGEST:,} bytes. Send several.")
        return await run_in_threadpool(self._ask, body)

    def _ask(self, body: bytes) -> Response:
        requests = self.get_requests()
        try:
            request = Request.read(body)
            check_may_read(request, self.get_permissions())
            return _tell(describe(requests.ask(request), requests), 202)
        except Refused as error:
            return _fail(403, str(error))
        except TooMany as error:
            return _fail(503, str(error))
        except ExplorerError as error:
            return _fail(422, str(error))

    async def list_jobs(self, asked: Asked) -> Response:
        requests = self.get_requests()
        if wants_stream(asked):
            return self._stream(asked, requests, None)
        return JSONResponse({"jobs": [describe(job, requests).model_dump() for job in requests.list()]}, headers=_FRESH)

    async def show_job(self, asked: Asked) -> Response:
        requests = self.get_requests()
        if (job := _find(asked, requests)) is None:
            return _fail_unknown(asked)
        return self._stream(asked, requests, job) if wants_stream(asked) else _tell(describe(job, requests))

    def _stream(self, asked: Asked, requests: Requests, only: Job | None) -> Response:
        if len(FEED) >= MOST:
            return _fail(503, f"Too many listen: {MOST} streams are open. Ask without a stream, every few seconds.")
        events = stream_jobs(requests, asked, self.stopping, only)
        return StreamingResponse(events, media_type="text/event-stream", headers={**_FRESH, "X-Accel-Buffering": "no"})

    async def stop_job(self, asked: Asked) -> Response:
        requests = self.get_requests()
        if (job := _find(asked, requests)) is None:
            return _fail_unknown(asked)
        worker = requests.engine.worker
        if job.active and not worker.can_dismiss(job):
            return _fail(409, "The job is not stopped: a browser waits for it. Stop it there.")
        worker.dismiss(job)
        return _tell(describe(job, requests), 202 if job.active else 200)

    async def show_result(self, asked: Asked) -> Response:
        requests = self.get_requests()
        job = requests.find(asked.path_params["key"])
        if job is None:
            return _fail_unknown(asked)
        if job.active:
            return _tell(describe(job, requests), 202)
        if job.state == "done":
            return Response(job.result, media_type="application/json", headers=_FRESH)
        if job.error is None:
            return _fail(409, "There is no answer: it was stopped. Send the request again.")
        return _fail(500 if type(job.error) is ExplorerError else 409, str(job.error))  # what nobody foresaw is no kind


def check_may_read(request: Request, permissions: Permissions) -> None:
    """Raise Refused for what a link in a browser may not have this server read without a click, or run."""
    if request.model.trust_remote_code:
        raise Refused("A model's code is not run for a request", "trust_remote_code", "Use the command line")
    named = [("model", request.model.model), *(("text", text) for text in request.texts)]
    for kind, name in named:
        try:
            asks = permissions.asks(kind, name)  # type: ignore[arg-type]  # one of the two
        except NoName as error:
            raise Refused(f"No such {kind}", str(error).rstrip("."), "Name another") from None
        if asks is not None:
            where = f"Start the server with its folder in EXPLORER_{kind.upper()}S"
            raise Refused(f"A request may not read this {kind}", repr(name), where)


def _find(asked: Asked, requests: Requests) -> Job | None:
    key = asked.path_params["key"]
    return requests.find(key) or requests.engine.worker.find(key)


def _tell(told: BaseModel, status: int = 200) -> Response:
    return Response(told.model_dump_json(), status, _FRESH, "application/json")


def _fail(status: int, line: str) -> Response:
    return JSONResponse({"error": line}, status, _FRESH)


def _fail_unknown(asked: Asked) -> Response:
    return _fail(404, f"No such job: {asked.path_params['key'][:64]!r}. Send its request again.")
