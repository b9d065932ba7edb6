"""What servers that have ended left unfinished, asked again."""

from __future__ import annotations

from collections.abc import Callable

from explorer.verbs import Requests
from ui.api.routes import check_may_read
from ui.live import get_requests
from ui.view import Permissions, get_permissions


def take_up(
    get_requests: Callable[[], Requests] = get_requests, get_permissions: Callable[[], Permissions] = get_permissions
) -> None:
    """Ask again what servers over the same cache left unfinished, but for what no request may read here.

    Args:
        get_requests: returns what the server's engine was asked.
        get_permissions: returns what may be read.
    """
    get_requests().take_up(lambda request: check_may_read(request, get_permissions()))
