"""A config -> which of transformers' classes its checkpoint is loaded as: of text alone, or of images and text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.errors import ModelError

#: What a checkpoint declares, or nothing.
_Declared = str | None

_TEXT, _IMAGES = "AutoModelForCausalLM", "AutoModelForImageTextToText"


def check_declared(config: dict[str, Any], trust_remote_code: bool) -> None:
    """Raise ModelError for config.json of a checkpoint that is no decoder, or whose own code is not trusted."""
    architectures, model_type = config.get("architectures") or [None], config.get("model_type", "")
    if not isinstance(architectures, list) or not isinstance(model_type, str):
        raise ModelError("Cannot read config.json", "architectures is no list, or model_type no text", "Copy it again")
    declared = architectures[0]
    if not {_TEXT, _IMAGES}.isdisjoint(config.get("auto_map") or {}):
        if trust_remote_code:
            return
        if not _is_decoder(model_type, None):
            raise ModelError("The model brings its own code", str(declared), "Add --trust-remote-code if you trust it")
    if not _is_decoder(model_type, None):
        raise ModelError(
            "Not a causal language model", f"model type {model_type!r}, {declared}", "Use a decoder-only model"
        )
    if not _is_decoder(model_type, declared):
        raise ModelError("Not a causal language model", f"the checkpoint is a {declared}", "Use a decoder-only model")


def _is_decoder(model_type: str, declared: _Declared) -> bool:
    """Tell whether a class that a checkpoint declares, of a model type, writes text with a decoder."""
    causal, images = (_names(mapping, model_type) for mapping in _load_mappings())
    return bool(causal | images) and (declared is None or declared in causal | images)


def find_auto_class(config: Any) -> Any:
    """Return transformers' class that makes the model of a config: the one that its checkpoint declares."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    causal, images = (_names(mapping, config.model_type) for mapping in _load_mappings())
    declared = (config.architectures or [None])[0]
    of_images = images and declared not in causal and (declared in images or not causal)
    if not causal | images:  # code of its own says what loads it
        brought = getattr(config, "auto_map", None) or {}
        of_images = _IMAGES in brought and _TEXT not in brought
    return AutoModelForImageTextToText if of_images else AutoModelForCausalLM


def list_auto_classes(model_type: str, name: str) -> tuple[str, ...]:
    """Return the names of transformers' classes that make a class of a model type."""
    causal, images = (name in _names(mapping, model_type) for mapping in _load_mappings())
    return (_TEXT,) * (causal or not images) + (_IMAGES,) * images


def _load_mappings() -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    from transformers.models.auto import modeling_auto

    return modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def _names(mapping: Mapping[str, Any], model_type: str) -> set[str]:
    """Names of the classes of a model type; one or several."""
    known = mapping.get(model_type, ())
    return {known} if isinstance(known, str) else set(known)
