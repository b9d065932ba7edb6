"""Whatever was raised -> an error of the tree: one line; what nobody foresaw is logged whole."""

from __future__ import annotations

import sys
import traceback

from explorer.errors import ExplorerError

_MOST = 300  # characters of another library's words


def explain(error: BaseException) -> ExplorerError:
    """Return an error that can be shown and kept: it holds on to no frame, and with that to no tensor."""
    if isinstance(error, ExplorerError):
        error.__cause__ = error.__context__ = None
        return error.with_traceback(None)
    _log(error)
    if isinstance(error, MemoryError):
        return ExplorerError(
            "Out of memory", "this machine has none left for it", "Use a shorter text or window, or a smaller model"
        )
    return ExplorerError("Something broke", _describe(error), "The server's log has more")


def _describe(error: BaseException) -> str:
    try:
        words = " ".join(str(error).split())
    except BaseException:  # what cannot even be printed
        words = ""
    kind = type(error).__name__
    return f"{kind}: {words[:_MOST]}".rstrip(".") if words else kind


def _log(error: BaseException) -> None:
    try:
        traceback.print_exception(error, file=sys.stderr)
    except BaseException:
        print(f"{type(error).__name__}, which cannot be printed", file=sys.stderr)
