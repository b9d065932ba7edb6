"""A checkpoint's tensor names -> the names that they have in the model: transformers' own renaming is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: A tensor's name in a file -> its name in the model.
Naming = Callable[[str], str]


def find_naming(model: Any) -> Naming:
    """Return how a model's tensors are called in memory, by what they are called in its files."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, rename_source_key

    conversions = get_model_conversion_mapping(model)
    converters = [each for each in conversions if isinstance(each, WeightConverter)]
    renamings: list[Any] = [each for each in conversions if not isinstance(each, WeightConverter)]
    present = {name: True for name, _ in (*model.named_parameters(), *model.named_buffers())}
    prefix = model.base_model_prefix

    def name_in_model(name: str) -> str:
        return rename_source_key(name, renamings, converters, prefix, present)[0]

    return name_in_model
