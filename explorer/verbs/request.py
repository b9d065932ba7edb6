"""A request: a verb by name, the model and the text that it is asked of, and its options, as data."""

from __future__ import annotations

import hashlib
import inspect
import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import typer
from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError, create_model, field_validator

from explorer.checkpoints import DEFAULT_MODEL, ModelSpec
from explorer.errors import ExplorerError, shorten
from explorer.jsonable import to_json
from explorer.read_back import describe_first
from explorer.text import DEFAULT_TEXT, check_window, read_mixture
from explorer.verbs.catalogue import VERBS
from explorer.verbs.options import SHELL, TEXTS
from explorer.verbs.work import Settings, Work

_CLOSED = ConfigDict(frozen=True, extra="forbid")
_REMEDY = "docs/api.md says what a request holds"


class RequestError(ExplorerError):
    """The request cannot be read, or an option of it is not what the verb takes."""


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

    Raises RequestError for what is no request, TextError for a window of no size.

    Args:
        kind: a verb's name.
        model: what to load.
        text: what is judged by.
        calibration: what is decided by.
        options: of the verb, as its command has them, with `_` for `-`; none that names a file.
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
        if not self.text.name.startswith("tokens:"):
            check_window(self.text.window, self.text.tokens, None)

    @classmethod
    def read(cls, text: str | bytes) -> Request:
        """Read a request from JSON. Raises RequestError."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RequestError("The request is no JSON", str(error), _REMEDY) from None
        if not isinstance(found, dict):
            raise RequestError("The request is no JSON object", shorten(repr(found), 60), _REMEDY)
        return cls(**found)

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        if kind not in VERBS:
            raise RequestError("No such kind of request", shorten(repr(kind), 60), f"Ask for {', '.join(VERBS)}")
        return kind

    @field_validator("options")
    @classmethod
    def _check_options(cls, options: dict[str, Any], info: Any) -> dict[str, Any]:
        if "kind" not in info.data:
            return options
        try:
            return get_options(info.data["kind"]).model_validate(options).model_dump()
        except ValidationError as error:
            raise RequestError("An option is not valid", describe_first(error, options), _REMEDY) from None

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def key(self) -> str:
        """A digest of all that it holds."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    @property
    def texts(self) -> list[str]:
        """The texts that it names."""
        marked = [name for name in self.options if TEXTS in _find_marks(self.kind)[name]]
        named = [text for name in marked for text in self.options[name]]
        return [self.text.name, *read_mixture(self.calibration.names), *named]

    @property
    def title(self) -> str:
        """What is asked, as one would type it; a prompt is for nobody else to read."""
        fields = get_options(self.kind).model_fields
        given = {name: value for name, value in self.options.items() if value != fields[name].default}
        given.pop("prompt", None)
        words = [
            f"--{name.replace('_', '-')} {each}"
            for name, value in given.items()
            for each in (value if isinstance(value, list) else [value])
        ]
        return shorten(" ".join([self.kind, *words]), 120)

    def set_up(self, folder: Path) -> Settings:
        """Return the shared options of the command line that say the same, over a cache folder."""
        return Settings(
            model=self.model.model, dtype=self.model.dtype, device=self.model.device, quantize=self.model.quantize,
            stream=self.model.stream, trust_remote_code=self.model.trust_remote_code,
            text=self.text.name, tokens=self.text.tokens, window=self.text.window, bos=self.text.bos,
            calibration=list(self.calibration.names), calibration_tokens=self.calibration.tokens, cache=folder,
        )  # fmt: skip


@cache
def _find_marks(kind: str) -> dict[str, tuple[Any, ...]]:
    """Return what each option of a verb is annotated with: its type, typer's option, marks."""
    hints = get_type_hints(VERBS[kind], include_extras=True)
    found = {name: get_args(hints[name]) for name in list(inspect.signature(VERBS[kind]).parameters)[1:]}
    return {name: marks for name, marks in found.items() if SHELL not in marks}


@cache
def get_options(kind: str) -> type[BaseModel]:
    """Return a verb's options as a model: what its command takes, but for files."""
    parameters = inspect.signature(VERBS[kind]).parameters
    fields: dict[str, Any] = {}
    for name, (type_, option, *_) in _find_marks(kind).items():
        default = ... if (found := parameters[name].default) is inspect.Parameter.empty else found
        fields[name] = type_, Field(default, ge=option.min, le=option.max, description=option.help)
    closed = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    return create_model(f"{kind.capitalize()}Options", __config__=closed, __doc__=VERBS[kind].__doc__, **fields)


def answer_with(work: Work, request: Request) -> dict[str, Any]:
    """Answer a request with what a verb works with, as JSON has it. Raises what the verb does, as an ExplorerError."""
    try:
        found, _ = VERBS[request.kind](work, **request.options)
    except typer.BadParameter as error:
        raise RequestError("An option is not valid", error.format_message(), _REMEDY) from None
    return to_json(found)


def answer(request: Request, folder: Path = Path("cache")) -> dict[str, Any]:
    """Answer a request in this process: what the verb prints with `--json`.

    Args:
        request: what is asked.
        folder: the cache.
    """
    work = Work(request.set_up(folder))
    try:
        return answer_with(work, request)
    finally:
        work.close()
