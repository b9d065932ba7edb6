"""What the unpruned model predicts: asked anew at each step, or its likeliest tokens, found once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from explorer.errors import ModifyError
from explorer.healing.losses import Logits, find_divergence, find_top_divergence
from explorer.healing.vocabulary_loss import join_others
from explorer.healing.windows import TrainingWindows
from explorer.model import Ids, LoadedModel, slice_rows
from explorer.modifiers import Setting
from explorer.storage import make_key
from explorer.text import Windows


class Teacher(Protocol):
    """Whose predictions are learnt."""

    def __call__(self, rows: Int[Tensor, " batch"], ids: Ids, logits: Logits) -> Float[Tensor, ""]:
        """Return how far logits on windows, given by number and by ids, are from the teacher's."""


def find_teacher(setting: Setting, windows: TrainingWindows, options: Mapping[str, str]) -> Teacher | None:
    """Return whom a training learns from, by its options; None where it is the text alone.

    Raises ModifyError: as many tokens are to be kept as there are.
    """
    if options["loss"] == "lm":
        return None
    if options["teacher"] == "all":
        return lambda rows, ids, logits: find_divergence(logits, ask_teacher(setting.loaded, ids))
    return _KeptTeacher(setting, windows, int(options["teacher"].removeprefix("top")))


@torch.no_grad()
def ask_teacher(loaded: LoadedModel, ids: Ids) -> Logits:
    """Return the unpruned model's logits: the same weights, with nothing off and nothing changed."""
    return loaded.model(ids, use_cache=False).logits


class _KeptTeacher:
    """The likeliest tokens of every window that a training looks at, with what is left for all others.

    Holds 8 bytes for each of them at every position, in memory and, unpacked, in the store.
    """

    def __init__(self, setting: Setting, windows: TrainingWindows, top: int) -> None:
        if top >= setting.loaded.vocabulary:
            words = f"{top} of {setting.loaded.vocabulary} tokens"
            raise ModifyError("Nothing is left beside the likeliest tokens", words, "Use teacher=all")
        needed = np.unique(np.concatenate([windows.order, windows.apart]))
        self._places = torch.zeros(len(windows.ids), dtype=torch.long)
        self._places[needed] = torch.arange(len(needed))
        found = _find_top(setting, windows.ids[needed], top)
        self._log_probs, self._tokens = (torch.from_numpy(found[name]) for name in ("log_probs", "tokens"))

    def __call__(self, rows: Int[Tensor, " batch"], ids: Ids, logits: Logits) -> Float[Tensor, ""]:
        places = self._places[rows.cpu()]
        log_probs, tokens = (each[places].to(logits.device) for each in (self._log_probs, self._tokens))
        return find_top_divergence(logits, log_probs, tokens.long())


def _find_top(setting: Setting, ids: Int[np.ndarray, "windows window"], top: int) -> dict[str, np.ndarray]:
    """Return the likeliest tokens at every position that predicts one, from the store where they were found before.

    `log_probs` has one entry more than `tokens`: of all others together.
    """
    loaded, rows = setting.loaded, setting.run.fit_rows(ids.shape[1])
    digest = Windows(ids, np.zeros(len(ids), np.int64)).digest
    key = make_key("teacher", context=loaded.numerics_key(rows), windows=digest, top=str(top))
    kept = setting.store.arrays(key)
    if kept is None:
        parts = []
        for part in slice_rows(len(ids), rows):
            setting.progress(part.start, len(ids), "The unpruned model predicts")
            parts.append(pick_top(ask_teacher(loaded, torch.from_numpy(ids[part]).to(loaded.device)), top))
        log_probs, tokens = (torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True))
        kept = {"log_probs": log_probs, "tokens": tokens}
        setting.store.add_arrays(key, kept)
    return kept


def pick_top(
    logits: Logits, top: int
) -> tuple[Float[Tensor, "batch positions outputs"], Int[Tensor, "batch positions chosen"]]:
    """Return the log-probabilities of the likeliest tokens, behind them that of all others together, and the tokens."""
    found = F.log_softmax(logits[:, :-1].to(torch.promote_types(logits.dtype, torch.float32)), -1)
    tokens = found.topk(top, -1).indices
    return join_others(found, tokens), tokens.int()
