"""What the unpruned model writes: windows of its own, sampled or greedy, from BOS or from the beginnings of others."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from transformers import GenerationConfig

from explorer.errors import ModifyError
from explorer.masks import NONE
from explorer.model import LoadedModel, slice_rows
from explorer.modifiers import Setting
from explorer.storage import make_key
from explorer.text import Windows

#: Windows are written so many times as many at once as are read: of each one id goes through the model, not all.
AT_ONCE = 16

_Windows = Int[np.ndarray, "windows window"]


def find_own_text(setting: Setting, windows: _Windows, prompt: int, decoding: str) -> _Windows:
    """Return a window that the unpruned model writes for each of some; they are made once and kept.

    Args:
        setting: the model, and where it is kept.
        windows: how many and how long, and what is gone on from.
        prompt: ids at the beginning of each that are gone on from; 0 for the token that begins a text.
        decoding: `sampled` at temperature 1, or `greedy`.

    Raises ModifyError: no id is left to write, the tokenizer has no token to begin with, or greedy texts would be one.
    """
    (count, window), loaded = windows.shape, setting.loaded
    if prompt >= window:
        raise ModifyError("Nothing is left to write", f"prompts of {prompt} ids in windows of {window}", "Shorten them")
    start = windows[:, :prompt] if prompt else np.full((count, 1), _find_first(loaded))
    if decoding == "greedy" and (kinds := len(np.unique(start, axis=0))) < count:
        found = f"{count} texts have {kinds} beginnings"
        raise ModifyError("Greedy texts that begin alike are one", found, "Use a longer prompt, or decoding=sampled")
    rows = 1 if loaded.batch_shape.one_window_at_a_time else AT_ONCE * setting.run.fit_rows(window)
    begun = Windows(start, np.zeros(count, np.int64)).digest
    key = make_key("own text", context=loaded.numerics_key(rows), start=begun, window=str(window), decoding=decoding)
    kept = setting.store.arrays(key)
    if kept is None:
        kept = {"ids": _write(setting, start, window, rows, decoding)}
        setting.store.add_arrays(key, kept)
    return kept["ids"]


def _write(
    setting: Setting, start: Int[np.ndarray, "windows starts"], window: int, rows: int, decoding: str
) -> _Windows:
    loaded, new, written = setting.loaded, window - start.shape[1], [np.zeros((0, window), np.int64)]
    choice = {"do_sample": True, "top_k": 0, "top_p": 1.0} if decoding == "sampled" else {"do_sample": False}
    config = GenerationConfig(max_new_tokens=new, min_new_tokens=new, pad_token_id=int(start[0, 0]), **choice)
    devices = [loaded.device] if loaded.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices), loaded.wrappers.as_variant(NONE):
        torch.manual_seed(0)
        for part in slice_rows(len(start), rows):
            setting.progress(part.start, len(start), "The unpruned model writes")
            ids = torch.from_numpy(start[part]).to(loaded.device)
            made = loaded.model.generate(ids, generation_config=config, attention_mask=torch.ones_like(ids))
            written.append(made.cpu().numpy())
    return np.concatenate(written)


def _find_first(loaded: LoadedModel) -> int:
    known = (loaded.tokenizer.bos_token_id, loaded.tokenizer.eos_token_id)
    found = next((token for token in known if token is not None), None)
    if found is None:
        raise ModifyError("The model cannot begin a text", "no BOS or EOS token", "Use text=calibration")
    return found
