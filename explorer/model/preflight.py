"""What can be refused at once: names, numbers and files that are looked at, before anything is fetched or loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from explorer.checkpoints import DEFAULT_MODEL, FORMS, ModelSpec
from explorer.errors import ExplorerError, ModelError, TextError
from explorer.extras import require
from explorer.model.loading import inspect_checkpoint
from explorer.model.placement import QUANTIZATIONS, pick_dtype, place
from explorer.paths import expand_user
from explorer.reading import exists, is_file
from explorer.storage import Store
from explorer.text import FORMS as TEXT_FORMS, check_window, find_text

_HUB_ID = re.compile(r"(?!.*(--|\.\.))\w[\w.-]{0,95}(/\w[\w.-]{0,95})?(?<![.-])(?<!\.git)", re.ASCII)


def find_faults(spec: ModelSpec, text: str, tokens: int, window: int) -> dict[str, ExplorerError]:
    """Return what is wrong with what one asks to load, by the name of the field; empty where all may be right.

    Fields: `model`, `dtype`, `device`, `quantize`, `text` and `window`.
    """
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("device", lambda: place(spec.device)),
        ("dtype", lambda: pick_dtype(spec.dtype, place("cpu").device, None)),
        ("quantize", lambda: _check_quantize(spec.quantize)),
        ("model", lambda: check_model(ModelSpec(spec.model, trust_remote_code=spec.trust_remote_code))),
        ("text", lambda: check_text(text)),
        ("window", lambda: check_window(window, tokens, None)),
    )
    return dict(_failing(checks))


def _failing(checks: tuple[tuple[str, Callable[[], object]], ...]) -> Iterator[tuple[str, ExplorerError]]:
    for field, check in checks:
        try:
            check()
        except ExplorerError as error:
            yield field, error


def _check_quantize(name: str) -> None:
    if name not in QUANTIZATIONS:
        raise ModelError("Unknown quantization", repr(name), "Use " + ", ".join(QUANTIZATIONS))
    if name != "none":
        require("bitsandbytes")


def check_model(spec: ModelSpec) -> None:
    """Raise ModelError for a model that is not there, or could not be loaded; whether the hub has it is not asked."""
    name = spec.model
    if not name.strip():
        raise ModelError("The model has no name", repr(name), FORMS)
    path = expand_user(name)
    if name == DEFAULT_MODEL and not exists(path):
        return
    if path.suffix.lower() == ".gguf":
        if not is_file(path):
            raise ModelError("No such GGUF file", repr(name[:200]), FORMS)
    elif exists(path):
        inspect_checkpoint(spec, Store(None), Path())  # a folder: neither is used
    elif name.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(name):
        raise ModelError("No such model", name[:200] if name.isprintable() else repr(name[:200]), FORMS)


def check_text(name: str) -> None:
    """Raise TextError for a text that is not there or of an unknown kind; whether the hub has it is not asked."""
    if name.startswith("tokens:"):
        if not is_file(expand_user(name.removeprefix("tokens:"))):
            raise TextError("No such file of tokens", repr(name[:200]), TEXT_FORMS)
        return
    find_text(name, lambda turns: "")  # nothing is read yet, conversations neither
