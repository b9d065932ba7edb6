"""Is the server well: whether it works, how much waits, whether anything runs, and when the worker was heard from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

Health = dict[str, Any]


def telling_health(look: Callable[[], Health]) -> Callable[[Request], Awaitable[JSONResponse]]:
    """Make the answer to who asks for the health: JSON, and 503 if it is bad; a stranger hears only whether it is good.

    Args:
        look: returns the worker's health, with `ok`.
    """

    async def tell(request: Request) -> JSONResponse:
        found = look()
        told = found if request.scope.get("known", True) else {"ok": found["ok"]}
        return JSONResponse(told, 200 if found["ok"] else 503, {"Cache-Control": "no-store"})

    return tell
