"""A checkpoint's tensor names -> the names that they have in the model: transformers' own renaming is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

#: A tensor's name in a file -> its name in the model.
Naming = Callable[[str], str]


def find_naming(model: Any) -> Naming:
    """Return how a model's tensors are called in memory, by what they are called in its files."""
    rename = _find_renaming(model)
    return lambda name: rename(name)[0]


def find_converted(model: Any) -> Callable[[str], bool]:
    """Return what tells whether a tensor of the files is split, fused, or turned when it is loaded."""
    rename = _find_renaming(model)
    return lambda name: rename(name)[1] is not None


def find_parts(model: Any, name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Return what a parameter that `find_converted` tells of is in the files, by names there: experts one by one."""
    from transformers.core_model_loading import revert_weight_conversion

    return dict(revert_weight_conversion(model, {name: tensor}))


def _find_renaming(model: Any) -> Callable[[str], tuple[str, str | None]]:
    """Return what gives a tensor's name in memory, and the pattern of what converts it, if anything does."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, rename_source_key

    conversions = get_model_conversion_mapping(model)
    converters = [each for each in conversions if isinstance(each, WeightConverter)]
    renamings: list[Any] = [each for each in conversions if not isinstance(each, WeightConverter)]
    present = {name: True for name, _ in (*model.named_parameters(), *model.named_buffers())}
    prefix = model.base_model_prefix
    return lambda name: rename_source_key(name, renamings, converters, prefix, present)
