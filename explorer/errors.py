"""One tree of errors. Each says what happened, what was found, and what to do."""

from __future__ import annotations

import re

_LONGEST = 400  # characters of what was found, and of another library's words

#: Lines of other libraries' errors that say nothing of the cause.
_EMPTY = re.compile(r"[\W_]*|.*(above report|report above|Traceback \(most recent).*")


class ExplorerError(Exception):
    """A problem the user can act on; its text is one line that can be printed, whatever was found.

    Args:
        what: what happened.
        found: the value or state that was met.
        remedy: what to do about it.
    """

    def __init__(self, what: str, found: str, remedy: str) -> None:
        self.what, self.found, self.remedy = what, found, remedy
        super().__init__(escape(" ".join(f"{shorten(what)}: {shorten(found)}. {shorten(remedy)}.".split())))

    def __reduce__(self) -> tuple[type[ExplorerError], tuple[str, str, str]]:
        return type(self), (self.what, self.found, self.remedy)


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


class ModifyError(ExplorerError):
    """The modifier cannot be read or does not apply, or the delta does not fit."""


class ExportError(ExplorerError):
    """The checkpoint cannot be written, or is not what was measured."""


class TaskError(ExplorerError):
    """The task cannot be found, read or answered."""


class DeviceError(ExplorerError):
    """The device is missing or out of memory."""


class MissingExtra(ExplorerError):
    """A package that this needs, and that only an extra installs, is not there."""


class Cancelled(Exception):
    """The work was cancelled by its owner; nothing went wrong."""


def first_line(error: BaseException) -> str:
    """Tell another library's error whole, in one line of bounded length; with its type where it is a word or none."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if not _EMPTY.fullmatch(line)]
    words = shorten(escape(" ".join(told))).rstrip(".")
    return f"{type(error).__name__}: {words}" if " " not in words and words else words or type(error).__name__


def shorten(text: str, longest: int = _LONGEST) -> str:
    """Leave out the middle of a text that is too long to be read."""
    if len(text) <= longest:
        return text
    tail = longest // 4
    return f"{text[: longest - tail - 5]} ... {text[-tail:]}"


def escape(text: str, kept: str = "") -> str:
    """Write characters that a terminal would act on, or not show, as Python does: `\\x1b`, `\\n`.

    Args:
        kept: characters to leave as they are, such as line ends.
    """
    return "".join(
        letter if letter.isprintable() or letter in kept else letter.encode("unicode_escape").decode()
        for letter in text
    )
