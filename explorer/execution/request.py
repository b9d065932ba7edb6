"""A request: a kind by name, the model and the texts that it is asked of, and its options, as data."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, field_validator

from explorer.checkpoints import DEFAULT_MODEL, ModelSpec
from explorer.errors import ExplorerError, shorten
from explorer.execution.kinds import KINDS
from explorer.read_back import describe_first
from explorer.text import DEFAULT_TEXT, check_window, read_mixture

_CLOSED = ConfigDict(frozen=True, extra="forbid")
_REMEDY = "docs/api.md says what a request holds"


class RequestError(ExplorerError):
    """The request cannot be read, or an option of it is not what its kind takes."""


class AskedText(BaseModel):
    """The text that is judged by, and how it is cut; see `text.tokenize`."""

    model_config = _CLOSED

    name: str = DEFAULT_TEXT
    tokens: StrictInt = 2048
    window: StrictInt = 256
    bos: Literal["auto", "always", "never"] = "auto"


class AskedCalibration(BaseModel):
    """The texts that are decided by, if not that which is judged by; and how many ids of them, 0 for as many."""

    model_config = _CLOSED

    names: tuple[str, ...] = ()
    tokens: StrictInt = Field(default=0, ge=0)


class Request(BaseModel):
    """What is asked. Equal requests have equal keys, whether or not an option that is as it would be was written.

    Raises RequestError for what is no request.

    Args:
        kind: a verb's name, or what a page asks for; see `KINDS`.
        model: what to load.
        text: what is judged by.
        calibration: what is decided by.
        options: of the kind; a verb's are those of its command, with `_` for `-`, but for those that name files.
    """

    model_config = _CLOSED

    kind: str
    model: ModelSpec = ModelSpec(DEFAULT_MODEL)
    text: AskedText = AskedText()
    calibration: AskedCalibration = AskedCalibration()
    options: dict[str, Any] = Field(default={}, validate_default=True)

    def __init__(self, /, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise RequestError("The request is not valid", describe_first(error, given), _REMEDY) from None

    @classmethod
    def read(cls, text: str | bytes, of_programs: bool = True) -> Request:
        """Read a request from JSON. Raises RequestError, and for a program's TextError for a window of no size.

        Args:
            of_programs: whether a program asks: for a verb, and nothing else.
        """
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError("The request is no JSON", str(error), _REMEDY) from None
        if not isinstance(found, dict):
            raise RequestError("The request is no JSON object", shorten(repr(found), 60), _REMEDY)
        kind = found.get("kind")
        if of_programs and isinstance(kind, str) and kind in KINDS and not KINDS[kind].of_programs:
            raise _refuse(kind)
        asked = cls(**found)
        if of_programs and not asked.text.name.startswith("tokens:"):
            check_window(asked.text.window, asked.text.tokens, None)
        return asked

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        if kind not in KINDS:
            raise _refuse(kind)
        return kind

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any], info: Any) -> dict[str, Any]:
        if "kind" not in info.data:
            return options
        try:
            return KINDS[info.data["kind"]].options().model_validate(options).model_dump()
        except ValidationError as error:
            raise RequestError("An option is not valid", describe_first(error, options), _REMEDY) from None

    def write(self) -> str:
        """Write it as JSON in ASCII, whatever names hold; `read` reads it again."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> str:
        """A digest of all that it holds."""
        return hashlib.blake2b(self.write().encode(), digest_size=16).hexdigest()

    @property
    def texts(self) -> list[str]:
        """The texts that it names."""
        named: list[str] = []
        for name in KINDS[self.kind].texts():
            value = self.options[name]
            named += value if isinstance(value, list) else [value] * bool(value)
        return [self.text.name, *read_mixture(self.calibration.names), *named]

    @property
    def title(self) -> str:
        """What is asked, as one would type it; a prompt is for nobody else to read."""
        fields = KINDS[self.kind].options().model_fields
        given = {name: value for name, value in self.options.items() if value != fields[name].default}
        given.pop("prompt", None)
        words = [
            f"--{name.replace('_', '-')} {each}"
            for name, value in given.items()
            for each in (value if isinstance(value, list) else [value])
        ]
        return shorten(" ".join([self.kind, *words]), 120)


def _refuse(kind: str) -> RequestError:
    names = ", ".join(name for name, each in KINDS.items() if each.of_programs)
    return RequestError("No such kind of request", shorten(repr(kind), 60), f"Ask for {names}")
