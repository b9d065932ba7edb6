"""Tensors of a checkpoint that its model does not use -> notices, or an error that names them.

A tensor of the decoder that the config does not declare would change every number if it were used: an error. What
belongs to another tower, to layers that predict further tokens, or is a buffer that a model makes anew, is a notice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from explorer.errors import ModelError
from explorer.model.architecture import count_layers

_FURTHER_TOKENS = "further tokens"

#: Parts of a name that stand for a tower beside the decoder, and what it is called.
_TOWERS = {
    "images": r"vision|visual|image|img|vit|clip|siglip|mm|multi_?modal|projector|resampler|perceiver|aligner",
    "sound": r"audio|speech|whisper|talker|token2wav|code2wav|codec",
    _FURTHER_TOKENS: r"mtp|nextn|medusa|eagle|draft",
    "a score": r"score|classifier|v_head|value_head|reward_head|regression_head",
}

#: What a layer that predicts further tokens has and no other: the projection of the token before, its norms, a head.
_FURTHER = re.compile(r"\.(eh_proj|enorm|hnorm|shared_head|embed_tokens|token_layernorm|hidden_layernorm|input_proj)\.")

#: Config fields that count such layers.
_COUNTS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers")

#: Buffers that follow from the config.
_BUFFERS = re.compile(r"(^|\.)(inv_freq|cos_cached|sin_cached|masked_bias|position_ids)$")

_SHOWN = 4


@dataclass(frozen=True)
class Leftovers:
    """What a model does not use of its files.

    Args:
        notices: a line for each kind.
        tensors: their names in the files.
    """

    notices: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()


def sort_leftovers(model: Any, unexpected: Iterable[str], files: Iterable[Path]) -> Leftovers:
    """Tell what the tensors that a model did not use are.

    Args:
        unexpected: names that transformers reports.
        files: the checkpoint's; names in them that the model's class ignores without a report are looked up here.

    Raises:
        ModelError: some are of the decoder, which the config does not declare.
    """
    named = _read_names(files)
    ignored = _find_ignored(model, named)
    n_layers = count_layers(model.config)
    kinds: dict[str, list[str]] = {}
    undeclared, beyond = [], []
    for name in sorted({*_as_in_files(unexpected, named), *ignored}):
        layer = _find_layer(name)
        if tower := _find_tower(name):
            kinds.setdefault(f"for {tower}", []).append(name)
        elif layer is not None and layer >= n_layers:
            beyond.append(name)
        elif _BUFFERS.search(name) or name in ignored:
            kinds.setdefault("that are made anew", []).append(name)
        else:
            undeclared.append(name)
    if undeclared:
        raise ModelError(
            "The checkpoint has weights that its config does not declare",
            name_kinds(undeclared),
            "Correct config.json",
        )
    if beyond and not _predict_further(model.config, beyond):
        raise ModelError(
            "The checkpoint has more layers than its config",
            f"{beyond[0]} where the config has {n_layers}",
            "Correct config.json",
        )
    if beyond:
        kinds.setdefault(f"for {_FURTHER_TOKENS}", []).extend(beyond)
    notices = tuple(f"{name_kinds(names)}: weights {kind}, not used" for kind, names in sorted(kinds.items()))
    return Leftovers(notices, tuple(sorted(name for names in kinds.values() for name in names)))


def name_kinds(names: Iterable[str]) -> str:
    """Name tensors in a line: those that differ by numbers only once, with `*` for the numbers; with their count."""
    every = list(names)
    kinds = list(dict.fromkeys(re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", name) for name in every))
    if len(every) == 1:
        return every[0]
    more = f" and {len(kinds) - _SHOWN} more" if len(kinds) > _SHOWN else ""
    return f"{len(every)} tensors, {', '.join(kinds[:_SHOWN])}{more}"


def _read_names(files: Iterable[Path]) -> list[str]:
    from safetensors import safe_open

    found: list[str] = []
    for path in files:
        with safe_open(path, "pt") as file:
            found += file.keys()
    return found


def _as_in_files(names: Iterable[str], named: list[str]) -> Iterator[str]:
    """Yield names as they are in the files, which transformers renames, or makes one of several experts, before."""
    own = set(named)
    for name in names:
        inside = name.rpartition(".")[0] + "."
        found = {name} & own or {n for n in own if n.endswith(f".{name}")} or {n for n in own if n.startswith(inside)}
        yield from found or {name}


def _find_ignored(model: Any, named: list[str]) -> set[str]:
    """Return names in the files that the model's class says to leave out."""
    patterns = set(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())
    pattern = re.compile("|".join([*(f"(?:{p})" for p in patterns), r"(?:rotary_emb\.inv_freq)"]))
    own = model.state_dict().keys()
    return {name for name in named if name not in own and pattern.search(name)}


def _find_layer(name: str) -> int | None:
    """Return the number of the decoder's layer that a tensor is in."""
    match = re.search(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.", name)
    return int(match[1]) if match else None


def _find_tower(name: str) -> str | None:
    """Return what the tower is for that a tensor belongs to, by the parts of its name before any number."""
    for part in re.split(r"\.\d+(?:\.|$)", name)[0].split("."):
        for purpose, words in _TOWERS.items():
            if re.search(rf"(^|_)({words})(_|\d|$)", part):
                return purpose
    return None


def predicts_further(name: str) -> bool:
    """Tell whether a tensor is of a tower that predicts further tokens."""
    return _find_tower(name) == _FURTHER_TOKENS


def _predict_further(config: Any, names: list[str]) -> bool:
    """Tell whether layers after the last one are there to predict further tokens."""
    decoder = config.get_text_config(decoder=True)
    declared = sum(count for key in _COUNTS if isinstance(count := getattr(decoder, key, 0), int))
    first = count_layers(config)
    layers = {layer for name in names if (layer := _find_layer(name)) is not None}
    if declared and max(layers) < first + declared:
        return True
    marked = {_find_layer(name) for name in names if _FURTHER.search(name)}
    return layers <= marked
