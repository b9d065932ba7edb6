"""What a page asks for -> the request that asks the same of a program."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from explorer.deltas import write_modifiers
from explorer.execution.job import Job
from explorer.execution.view import View
from explorer.storage import Asked


def write_request(job: Job, view: View, kind: str, options: dict[str, Any]) -> Asked:
    """Write a page's job as a request.

    Args:
        view: whose model and texts it is asked of.
        kind, options: a verb, and what it is given.
    """
    asked = {
        "kind": kind,
        "model": asdict(view.spec),
        "text": {"name": view.text, "tokens": view.tokens, "window": view.window},
        "calibration": {"names": [view.calibration] if view.calibration else [], "tokens": view.calibration_tokens},
        "options": options,
    }
    return Asked(job.key, json.dumps(asked), "browser", job.title)


def write_variant(view: View) -> dict[str, Any]:
    """Return the options of the verb `score` by which a view's variant is made and scored."""
    return {"mask": [str(view.mask)] if view.mask else [], "modify": [write_modifiers(view.modify)]}
