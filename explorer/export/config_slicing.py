"""The config of a checkpoint, layers that stay -> the config of those: what speaks of layers is sliced or renumbered.

A key that has one entry a layer, or names layers or one layer by number, and that is not known here is refused by name:
left as it was, it would speak of other layers.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, NoReturn

from explorer.errors import ExportError

#: Keys that may hold one entry a layer, in whatever family has them.
PER_LAYER = frozenset(
    {
        *("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types", "attention_layers", "no_rope_layers"),
        *("layer_rope_theta", "num_attention_heads_per_layer", "num_key_value_heads_per_layer", "num_attention_heads"),
        *("num_key_value_heads", "num_query_heads", "num_kv_heads", "head_dim", "ffn_multipliers", "sliding_window"),
        *("intermediate_size", "moe_intermediate_size", "moe_layer_freq", "num_experts", "num_experts_per_tok"),
        *("moe_topk", "activation_sparsity_pattern", "swiglu_limits", "block_configs"),
    }
)

#: Keys that list layers by number.
_NUMBERS = frozenset(
    {
        *("mlp_only_layers", "moe_layers", "attn_layer_indices", "full_attn_idxs", "hybrid_layer_ids"),
        *("rope_scaling_layers", "cross_attention_layers"),
    }
)

#: Keys with one entry a layer, which is the number of the layer whose keys and values it reads.
_SOURCES = ("kv_source_layers",)

#: Keys that say how many of the first layers are of another kind.
_FIRST = ("first_k_dense_replace", "num_dense_layers", "max_window_layers", "num_hash_layers")

#: Keys that say how many of the last layers are of another kind.
_LAST = ("num_kv_shared_layers",)

#: Keys that count all layers, beside the one that does.
_COUNTS = ("num_blocks",)

#: Keys that say how many layers come after the last one, to predict further tokens; these go with it.
BEYOND = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers")

#: Keys whose lists are as long as they are for other reasons.
_OTHER = re.compile(
    r"architectures|auto_map|.*_token_ids?|.*tokens|.*_index|.*rope_(parameters|scaling).*|id2label|label2id|pruned|"
    r"torch_dtype|dtype|time_step_limit|mrope_section|_.*|transformers_version|attention_types|per_layer_config|"
    r"transformers_weights|(vision|audio|image|video)_.*|bad_words_ids|weight_block_size"
)
_NAMES_LAYERS = re.compile(r"(^|_)(layers?|blocks?)(_|$)|_idxs$|_indices$")

#: Keys whose number is that of one layer: not how many there are, how wide, or how often.
_NAMES_ONE = re.compile(
    r"(?!(num|n)_)(\w+_)?(?<!per_)(layer(_(start|end|begin))?|(layers?|blocks?)(_\w+)?_(idx|index|id|number|offset))"
)
#: Those that are brought in step here, that say where a pattern begins, which the layers made anew show, and a tower's.
_ONE_KNOWN = re.compile(r"moe_layer_(start|end)_index|(attn|expert)_layer_offset|insert_layer_id|.*vision_.*")

#: A module's path in a checkpoint -> where it goes, None for nowhere; itself where it is in no layer.
Move = Callable[[str], "str | None"]


def slice_config(written: dict[str, Any], loaded: Any, kept: list[int], move: Move) -> dict[str, Any]:
    """Return config.json for the layers that stay.

    Args:
        written: the source's config.json.
        loaded: the model's transformers config, with per-layer lists in full; they are sliced, never made anew, since
            their pattern starts at the old layer 0.
        kept: the layers that stay, in order.

    Raises:
        ExportError: a key speaks of layers in a way that is not known, or what it says cannot be said of these layers.
    """
    decoder = loaded.get_text_config(decoder=True)
    if getattr(decoder, "scale_attn_by_inverse_layer_idx", False):
        _refuse("attention is scaled by the layer's number", "Turn off sites only")
    config: dict[str, Any] = _move_paths(copy.deepcopy(written), move, "")
    name = next((key for key in loaded.sub_configs if getattr(loaded, key, None) is decoder), "")
    beside = {key: value for key, value in config.items() if key not in loaded.sub_configs}
    _check_unknown(beside, kept, getattr(decoder, _find_count(decoder)))
    _slice_decoder(config.get(name, config), decoder, kept)
    return config


def _slice_decoder(written: dict[str, Any], loaded: Any, kept: list[int]) -> None:
    """Bring the part of a config that is the decoder's in step."""
    n_layers = getattr(loaded, _find_count(loaded))
    kinds, dense = _list_attention_kinds(loaded), _find_dense(loaded, kept)
    _check_unknown({**vars(loaded), **written}, kept, n_layers)
    written |= {key: len(kept) for key in (*_COUNTS, _find_count(loaded)) if getattr(loaded, key, None) == n_layers}
    for key in PER_LAYER:
        derived = isinstance(getattr(type(loaded), loaded.attribute_map.get(key, key), None), property)
        if isinstance(values := _read(loaded, key), (list, tuple)) and len(values) >= n_layers and not derived:
            written[key] = [values[layer] for layer in kept]
    for key in _NUMBERS:
        if isinstance(values := getattr(loaded, key, None), (list, tuple)):
            written[key] = [kept.index(layer) for layer in values if layer in kept]
    for key in _SOURCES:
        if sources := getattr(loaded, key, None):
            if gone := {sources[layer] for layer in kept} - set(kept):
                _refuse(f"{key} in the config names layer {min(gone)} as a source, which goes", "Turn off sites only")
            written[key] = [kept.index(sources[layer]) for layer in kept]
    for key in _FIRST:
        if isinstance(count := getattr(loaded, key, None), int) and count < n_layers:
            written[key] = sum(layer < count for layer in kept)
    for key in _LAST:
        if count := getattr(loaded, key, None):
            written[key] = sum(layer >= n_layers - count for layer in kept)
    for key in BEYOND:
        if written.get(key):
            written[key] = 0
    if isinstance(each := written.get("per_layer_config"), dict):
        own = {int(number): entry for number, entry in each.items()}
        written["per_layer_config"] = {str(new): own[old] for new, old in enumerate(kept) if old in own}
    if pattern := getattr(loaded, "block_types", None):  # repeated as often as there are layers
        written["block_types"] = [pattern[layer % len(pattern)] for layer in kept]
    if kinds:
        written["attention_types"] = [[[kinds[layer] for layer in kept], 1]]
    if dense is not None:
        written |= {"mlp_only_layers": dense, "decoder_sparse_step": 1}
    if experts := _find_expert_range(loaded, kept):
        written |= dict(zip(("moe_layer_start_index", "moe_layer_end_index"), experts, strict=True))
        written["moe_layer_interval"] = 1


def _read(loaded: Any, key: str) -> Any:
    """Return what a config has under a key; nothing where each layer has its own, which `per_layer_config` lists."""
    try:
        return getattr(loaded, key, None)
    except RuntimeError:
        return None


def _find_count(loaded: Any) -> str:
    """Name of the key that counts the decoder's layers: of an encoder's config, its own."""
    if isinstance(getattr(loaded, "decoder_layers", None), int):
        return "decoder_layers"
    return loaded.attribute_map.get("num_hidden_layers", "num_hidden_layers")


def _list_attention_kinds(loaded: Any) -> list[str]:
    """Kind of each layer where a config says it as a pattern and how often; else nothing."""
    return list(loaded.attention_layers) if getattr(loaded, "attention_types", None) else []


def _find_dense(loaded: Any, kept: list[int]) -> list[int] | None:
    """New numbers of layers without experts, where that follows from their old ones; None where it does not."""
    if not hasattr(loaded, "mlp_only_layers") or not hasattr(loaded, "decoder_sparse_step"):
        return None
    step, dense = loaded.decoder_sparse_step, set(loaded.mlp_only_layers or ())
    return [new for new, old in enumerate(kept) if old in dense or (old + 1) % step != 0]


def _find_expert_range(loaded: Any, kept: list[int]) -> tuple[int, int] | None:
    """First and last new number of layers with experts, where a config says it as a range with steps.

    Raises ExportError if those that stay are no range.
    """
    interval, start = (getattr(loaded, f"moe_layer_{name}", None) for name in ("interval", "start_index"))
    if interval is None or start is None:
        return None
    last = getattr(loaded, "moe_layer_end_index", None)
    end = loaded.num_hidden_layers if last in (None, -1) else last
    new = [new for new, old in enumerate(kept) if start <= old <= end and (old + 1) % interval == 0]
    if not new or new != list(range(new[0], new[-1] + 1)):
        _refuse("moe_layer_interval cannot say which of these layers have experts", "Turn off sites only")
    return new[0], new[-1]


def _check_unknown(config: dict[str, Any], kept: list[int], n_layers: int, path: str = "") -> None:
    """Raise ExportError for a key, not known, that has one entry a layer or names layers by number."""
    for key, value in config.items():
        if not isinstance(key, str) or key in (*PER_LAYER, *_NUMBERS, *_SOURCES):
            continue
        if type(value) is int and _NAMES_ONE.fullmatch(key) and _is_moved(value, kept, n_layers):
            if not _ONE_KNOWN.fullmatch(key):
                _refuse(f"{path}{key} in the config names a layer by number, {value}", "Turn off sites only")
        elif _OTHER.fullmatch(key):
            continue
        elif isinstance(value, dict) and value:
            numbered = all(str(name).isdecimal() and int(name) < n_layers for name in value)
            if numbered:
                _refuse(f"{path}{key} in the config has entries for layers by number", "Turn off sites only")
            _check_unknown(value, kept, n_layers, f"{path}{key}.")
        elif isinstance(value, (list, tuple)) and value:
            modules = path.startswith("quantization_config.") and isinstance(value[0], str)
            if len(value) == n_layers > 1 and not modules:
                _refuse(f"{path}{key} in the config has {n_layers} entries, as many as layers", "Turn off sites only")
            numbers = [number for each in value for number in (each if isinstance(each, (list, tuple)) else [each])]
            if all(type(number) is int for number in numbers) and _NAMES_LAYERS.search(key):
                _refuse(f"{path}{key} in the config names layers by number", "Turn off sites only")


def _is_moved(number: int, kept: list[int], n_layers: int) -> bool:
    """Tell whether a number, below 0 from the last layer on, is that of a layer that goes or gets another one.

    -1 is the last layer, whichever that is, or none.
    """
    inside = -n_layers <= number < n_layers and number != -1
    return inside and kept[number : number + 1] != [number % n_layers]


def _move_paths(value: Any, move: Move, path: str) -> Any:
    """Renumber the paths of modules in a config, wherever they are; those of modules that go, go."""
    if isinstance(value, dict):
        moved = ((_move(name, move, path), name) for name in value)
        return {
            new: each if str(name).startswith("_") else _move_paths(each, move, f"{path}{name}.")
            for new, name in moved
            if new is not None
            for each in (value[name],)
        }
    if isinstance(value, list):
        each = [_move_paths(entry, move, path) for entry in value]
        return [new for new, old in zip(each, value, strict=True) if new is not None or old is None]
    return _move(value, move, path)


def _move(name: Any, move: Move, path: str) -> Any:
    if not isinstance(name, str) or not re.search(r"\d", name):
        return name
    if re.fullmatch(r"\w+(\.\w+)+", name):
        return move(name)
    if re.search(r"\b(layers|h|blocks)\b[\\.\[(]*\d", name):
        _refuse(f"{path.rstrip('.')} in the config names layers by a pattern, {name!r}", "Turn off sites only")
    return name


def _refuse(found: str, remedy: str) -> NoReturn:
    raise ExportError("Layers cannot be dropped exactly", found, remedy)
