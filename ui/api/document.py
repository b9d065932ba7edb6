"""The routes -> an OpenAPI document, from the models that read and write what goes over them."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import explorer
from explorer.verbs import VERBS, Request, get_options
from ui.api.job_state import JobState


class Failure(BaseModel):
    """What is wrong, in one line."""

    error: str


class Jobs(BaseModel):
    """What is active, in the order in which it runs; then the answers that are kept."""

    jobs: list[JobState]


_REFERENCE = "#/components/schemas/"


@cache
def describe_routes() -> dict[str, Any]:
    """Return the document."""
    models: list[type[BaseModel]] = [Request, Jobs, JobState, Failure, *map(get_options, VERBS)]
    _, made = models_json_schema([(each, "validation") for each in models], ref_template=_REFERENCE + "{model}")
    schemas = made["$defs"]
    schemas["Request"]["properties"]["kind"]["enum"] = list(VERBS)
    schemas["Request"]["properties"]["options"] = {"anyOf": [_point(get_options(kind).__name__) for kind in VERBS]}
    key = [{"name": "key", "in": "path", "required": True, "schema": {"type": "string"}}]
    stream = {"name": "stream", "in": "query", "schema": {"enum": ["1"]}, "description": "1: server-sent events."}
    known = {"200": _answer("As it is.", "JobState"), "404": _answer("It is not known.", "Failure")}
    busy = _answer("Too much is waiting, or listening.", "Failure")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Layer Redundancy Explorer", "version": explorer.__version__},
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}, {}],
        "paths": {
            "/api/requests": {
                "post": {
                    "summary": "Ask; an equal request that is known is not run again.",
                    "requestBody": {"required": True, "content": _as_json("Request")},
                    "responses": {
                        "202": _answer("The job.", "JobState"),
                        "403": _answer("It may not be read by a request.", "Failure"),
                        "413": _answer("It is too large.", "Failure"),
                        "415": _answer("It is not sent as JSON.", "Failure"),
                        "422": _answer("It is no request.", "Failure"),
                        "503": busy,
                    },
                }
            },
            "/api/jobs": {
                "get": {
                    "summary": "All jobs, once or as they get on.",
                    "parameters": [stream],
                    "responses": {"200": _answer("The jobs.", "Jobs"), "503": busy},
                }
            },
            "/api/jobs/{key}": {
                "get": {"summary": "A job.", "parameters": [*key, stream], "responses": known | {"503": busy}},
                "delete": {
                    "summary": "Stop a job that no browser waits for.",
                    "parameters": key,
                    "responses": known
                    | {"202": _answer("It stops at its next step.", "JobState"), "409": _answer("No.", "Failure")},
                },
            },
            "/api/results/{key}": {
                "get": {
                    "summary": "The answer: what the verb's command prints with --json.",
                    "parameters": key,
                    "responses": {
                        "200": {"description": "The answer.", "content": {"application/json": {}}},
                        "202": _answer("It is not there yet.", "JobState"),
                        "404": known["404"],
                        "409": _answer("It failed, or was stopped.", "Failure"),
                        "500": _answer("Something broke.", "Failure"),
                    },
                }
            },
        },
    }


def _point(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE + name}


def _as_json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _point(name)}}


def _answer(words: str, name: str) -> dict[str, Any]:
    return {"description": words, "content": _as_json(name)}
