"""What is trained on: the calibration windows, or windows that the unpruned model itself wrote."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from transformers import GenerationConfig

from explorer.errors import ModifyError
from explorer.healing.recipe import Recipe
from explorer.healing.windows import TrainingWindows, deal_out
from explorer.masks import NONE
from explorer.model import LoadedModel, slice_rows
from explorer.modifiers import Setting
from explorer.storage import make_key


def find_windows(setting: Setting, text: str, recipe: Recipe) -> TrainingWindows:
    """Return the windows to train on, in their order. Raises ModifyError: see `_write`."""
    ids = setting.run.ids if text == "calibration" else _find_own(setting)
    return deal_out(ids, recipe.steps * recipe.batch, recipe.seed)


def _find_own(setting: Setting) -> Int[np.ndarray, "windows window"]:
    """Return as many windows as there are of calibration, written by the unpruned model; made once and kept."""
    loaded, (count, window) = setting.loaded, setting.run.ids.shape
    context = loaded.numerics_key(setting.run.rows)
    key = make_key("own text", context=context, windows=str(count), window=str(window))
    kept = setting.store.arrays(key)
    if kept is None:
        kept = {"ids": _write(setting, count, window)}
        setting.store.add_arrays(key, kept)
    return kept["ids"]


def _write(setting: Setting, count: int, window: int) -> Int[np.ndarray, "windows window"]:
    """Sample windows at temperature 1 from the token that begins a text; one that ends goes on with another.

    Raises ModifyError: the tokenizer has no such token.
    """
    loaded, written = setting.loaded, list[np.ndarray]()
    first = _find_first(loaded)
    config = GenerationConfig(
        max_new_tokens=window - 1, min_new_tokens=window - 1, do_sample=True, top_k=0, top_p=1.0, pad_token_id=first
    )
    devices = [loaded.device] if loaded.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices), loaded.wrappers.as_variant(NONE):
        torch.manual_seed(0)
        for rows in slice_rows(count, setting.run.rows):
            setting.progress(rows.start, count, "The unpruned model writes")
            start = torch.full((rows.stop - rows.start, 1), first, device=loaded.device)
            made = loaded.model.generate(start, generation_config=config, attention_mask=torch.ones_like(start))
            written.append(made.cpu().numpy())
    return np.concatenate(written)


def _find_first(loaded: LoadedModel) -> int:
    known = (loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id)
    found = next((token for token in known if token is not None), None)
    if found is None:
        raise ModifyError("The model cannot begin a text", "no BOS or EOS token", "Use text=calibration")
    return found
