"""One tree of errors. Each says what happened, what was found, and what to do."""

from __future__ import annotations


class ExplorerError(Exception):
    """A problem the user can act on; its text is one line.

    Args:
        what: what happened.
        found: the value or state that was met.
        remedy: what to do about it.
    """

    def __init__(self, what: str, found: str, remedy: str) -> None:
        self.what, self.found, self.remedy = what, found, remedy
        super().__init__(" ".join(f"{what}: {found}. {remedy}.".split()))


class ModelError(ExplorerError):
    """The model cannot be found, read or loaded."""


class UnsupportedModel(ModelError):
    """The model loads, but this program cannot measure it correctly."""


class TextError(ExplorerError):
    """The text cannot be found, read or cut into windows."""


class MaskError(ExplorerError):
    """The mask cannot be read or does not fit the model."""


class PlanError(ExplorerError):
    """The plan cannot be read, made or followed."""


class ExportError(ExplorerError):
    """The checkpoint cannot be written, or is not what was measured."""


class DeviceError(ExplorerError):
    """The device is missing or out of memory."""


class Cancelled(Exception):
    """The work was cancelled by its owner; nothing went wrong."""


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
