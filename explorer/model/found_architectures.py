"""What an experiment has found of a model's layers, stored for the next load of the same files."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from explorer.checkpoints import ModelSpec
from explorer.model.architecture import Architecture, find_architecture
from explorer.model.dissection import find_updates
from explorer.model.selfcheck import wrap_checked
from explorer.model.wrappers import ModelWrappers
from explorer.storage import Store, describe_libraries, make_key


def wrap_as_found(model: Any, digest: str, spec: ModelSpec, store: Store) -> tuple[ModelWrappers, bool]:
    """Wrap and check a model, by what an earlier load has found or else by experiment; see `wrap_checked`.

    What the code of a model does that brings its own is found at each load: a digest of the files does not tell.

    Args:
        digest: of the model's files.
        spec: how it was loaded.
        store: where the finding is kept.
    """
    key = make_key(
        "architecture",
        model=digest,
        dtype=str(model.dtype),
        quantize=spec.quantize,
        libraries=describe_libraries(),
    )
    known = None if spec.trust_remote_code else _recall(store, key)
    wrappers, parallel = wrap_checked(model, known or find_updates(model, find_architecture(model)))
    if wrappers.architecture != known and not spec.trust_remote_code:
        found = asdict(replace(wrappers.architecture, known=True))
        store.add_arrays(key, {"architecture": np.array(json.dumps(found))})
    return wrappers, parallel


def _recall(store: Store, key: str) -> Architecture | None:
    stored = store.arrays(key)
    return None if stored is None else _read(json.loads(stored["architecture"].item()))


def _read(fields: dict[str, Any]) -> Architecture:
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()
    }
    return Architecture(**{**values, "each": tuple(map(_read, fields["each"]))})
