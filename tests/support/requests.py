"""Requests of a tiny model on a few short windows."""

from __future__ import annotations

from typing import Any

from explorer.checkpoints.spec import ModelSpec
from explorer.verbs.request import Request
from tests.support.tiny_models import WINDOW, Tiny


def write_request(
    tiny: Tiny, kind: str, options: dict[str, Any], text: str = "python-docs", windows: int = 4
) -> Request:
    spec = ModelSpec(str(tiny.folder("llama")), "float32", "cpu")
    size = {"name": text, "tokens": windows * WINDOW, "window": WINDOW}
    return Request(kind=kind, model=spec, text=size, options=options)
