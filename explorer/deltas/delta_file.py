"""A Delta -> a safetensors file, and back."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from explorer.deltas.delta import Delta, Origin, Trained
from explorer.deltas.modifier_spec import ModifierSpec
from explorer.deltas.stand_in import StandIn
from explorer.deltas.weight_change import build_change
from explorer.errors import ExplorerError, ModifyError, first_line
from explorer.masks import Mask

FORMAT = 1
_REMEDY = "Make it again with 'modify --out'"


def write_delta(path: Path, delta: Delta) -> None:
    """Write a delta into one file, with how it was made in its header. Raises OSError."""
    from safetensors.torch import save

    origin = delta.origin
    cost = {"seconds": origin.seconds, "forwards": origin.forwards}
    made = origin.describe() | cost | {"trained": origin.trained and asdict(origin.trained)}
    header = {"format": str(FORMAT), "digest": delta.digest, "origin": json.dumps(made)}
    with path.open("wb") as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in delta.tensors.items()}, header))


def read_delta(path: Path) -> Delta:
    """Read what `write_delta` wrote.

    Raises ModifyError: there is no such file, it is of a later format, or it does not hold what was written.
    """
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header.get("format") != str(FORMAT):
            raise ModifyError("Not a delta of this version", f"format {header.get('format')} in {path.name}", _REMEDY)
        delta = _build(json.loads(header["origin"]), tensors)
    except ModifyError:
        raise
    except (OSError, ExplorerError, KeyError, TypeError, ValueError) as error:
        raise ModifyError("Cannot read the delta", f"{path} ({first_line(error)})", _REMEDY) from error
    except Exception as error:  # safetensors has an error of its own, under no base but this one
        raise ModifyError("Not a file of tensors", f"{path} ({first_line(error)})", _REMEDY) from error
    if delta.digest != header.get("digest"):
        raise ModifyError("The delta is damaged", f"{path} does not have the digest that it names", _REMEDY)
    return delta


def _build(made: dict[str, Any], tensors: dict[str, Any]) -> Delta:
    weights: dict[int, dict[str, dict[str, Any]]] = defaultdict(lambda: defaultdict(dict))
    stand_ins: dict[Mask, dict[str, Any]] = defaultdict(dict)
    for name, tensor in tensors.items():
        kind, place, rest = name.split(".", 2)
        if kind == "layers":
            parameter, _, part = rest.partition(":")
            weights[int(place)][parameter][part] = tensor
        elif kind == "stand_ins":
            stand_ins[Mask.parse(place)][rest] = tensor
        else:
            raise ValueError(f"a tensor called {name}")
    origin = Origin(
        **made
        | {
            "modifier": ModifierSpec.parse(made["modifier"]),
            "mask": Mask.parse(made["mask"]),
            "below": tuple(made["below"]),
            "trained": Trained(**made["trained"]) if made.get("trained") else None,
        }
    )
    changes = {layer: {name: build_change(parts) for name, parts in named.items()} for layer, named in weights.items()}
    return Delta(origin, changes, {place: StandIn(**named) for place, named in stand_ins.items()})
