"""What is trained on: the calibration windows, cut anew where they are to be of another length, or own text."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Int

from explorer.healing.own_text import find_own_text
from explorer.healing.recipe import Recipe, read_whole
from explorer.healing.windows import TrainingWindows, deal_out
from explorer.modifiers import Setting
from explorer.text import check_window

_Windows = Int[np.ndarray, "windows window"]


def find_windows(setting: Setting, options: Mapping[str, str], recipe: Recipe) -> TrainingWindows:
    """Return the windows to train on, in their order.

    Raises:
        ModifyError: see `find_own_text`.
        TextError: not one window can be made, or it is beyond the model's positions.
    """
    ids = setting.run.ids if options["window"] == "auto" else _cut_anew(setting, read_whole(options, "window"))
    own = round(len(ids) * float(options["share"])) if options["text"] == "self" else 0
    if own:
        written = find_own_text(setting, ids[:own], read_whole(options, "prompt"), options["decoding"])
        ids = np.concatenate([written, ids[own:]])
    return deal_out(ids, recipe.steps * recipe.batch, recipe.seed)


def _cut_anew(setting: Setting, window: int) -> _Windows:
    """Join the calibration windows, and cut them into windows of another length; the last ids that fill none go."""
    ids, bos = setting.run.ids, setting.loaded.tokenizer.bos_token_id
    begun = int(bos is not None and bool((ids[:, 0] == bos).all()))
    text = ids[:, begun:].reshape(-1)
    check_window(window, len(text) + begun, setting.loaded.positions)
    count = len(text) // (window - begun)
    rows = text[: count * (window - begun)].reshape(count, window - begun)
    return np.concatenate([ids[:1, :begun].repeat(count, 0), rows], axis=1)
