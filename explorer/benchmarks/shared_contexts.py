"""LoadedModel -> whether a row may hold a tree of tokens: found by experiment, for families differ in their masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch

from explorer.benchmarks.request import Request
from explorer.benchmarks.token_tree import TokenTree, plant
from explorer.evaluation import run_prefix_tree
from explorer.masks import NONE
from explorer.model import Hidden, Ids, LoadedModel, ModelWrappers

#: Tokens of the two branches that are tried: long and short, so that what ignores positions or the mask is far off.
_CONTEXT, _BRANCHES = 4, (24, 4)

_found: WeakKeyDictionary[ModelWrappers, bool] = WeakKeyDictionary()


def find_reach(loaded: LoadedModel) -> int:
    """Return how many tokens a branch of a tree may have for the model to read it as it reads plain text; 0 for none.

    It reads them so if it heeds a mask and positions that it is given. Layers that slide would see too much of a longer
    branch.
    """
    if loaded.wrappers not in _found:
        _found[loaded.wrappers] = _reads_trees(loaded.wrappers)
    if not _found[loaded.wrappers]:
        return 0
    named = (getattr(loaded.config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((length for length in named if length), default=loaded.positions or 2**31)


def give_trees(trees: Sequence[TokenTree], length: int, wrappers: ModelWrappers) -> dict[str, Any]:
    """Return what the model is given beside ids, that each token sees its branch alone; what fills up sees itself."""
    sees = torch.eye(length, dtype=torch.bool).repeat(len(trees), 1, 1)
    depths = torch.zeros((len(trees), length), dtype=torch.long)
    for row, tree in enumerate(trees):
        sees[row, : len(tree), : len(tree)] = torch.from_numpy(tree.sees)
        depths[row, : len(tree)] = torch.from_numpy(tree.depths)
    dtype = wrappers.model.dtype
    mask = torch.where(sees, 0.0, torch.finfo(dtype).min).to(wrappers.device, dtype)
    return {"attention_mask": mask[:, None], "position_ids": depths.to(wrappers.device)}


@torch.inference_mode()
def _reads_trees(wrappers: ModelWrappers) -> bool:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(wrappers.vocabulary, (_CONTEXT + sum(_BRANCHES),), generator=draw).tolist()
    context, first, second = ids[:_CONTEXT], ids[_CONTEXT : -_BRANCHES[1]], ids[-_BRANCHES[1] :]
    tree = plant([Request(tuple(context), tuple(branch)) for branch in (first, second)])
    plain = _run(wrappers, [*context, *second[:-1]], {})[0, -1].float()
    try:
        given = give_trees([tree], len(tree), wrappers)
        branched = _run(wrappers, list(tree.ids), given)[0, tree.asked[1][-1][0]].float()
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    tolerance = max(1e-3, 8 * torch.finfo(wrappers.model.dtype).eps)
    return bool((branched - plain).norm() <= tolerance * plain.norm())


def _run(wrappers: ModelWrappers, ids: list[int], given: dict[str, Any]) -> Hidden:
    row: Ids = torch.tensor([ids], device=wrappers.device)
    ((_, hidden),) = run_prefix_tree(wrappers, wrappers.layer_inputs(row, **given), [NONE], None)
    return hidden
