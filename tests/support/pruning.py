"""Pruning inside matrices by NumPy, as the authors' codes do it; shares no code with the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

LINEARS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip


def inputs_of(model: Any, ids: np.ndarray) -> dict[str, list[np.ndarray]]:
    """What each linear map of the first layer of a Llama reads, window by window."""
    hidden = [model.model.embed_tokens(torch.from_numpy(row)[None]) for row in ids]
    return run_layer(model, 0, hidden)[1]


@torch.no_grad()
def run_layer(
    model: Any, layer: int, hidden: list[torch.Tensor]
) -> tuple[list[torch.Tensor], dict[str, list[np.ndarray]]]:
    """Run one layer of a Llama on each window; return its outputs, and what each linear map reads."""
    module, read = model.model.layers[layer], {name: list[np.ndarray]() for name in LINEARS}
    hooks = [
        module.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: read[name].append(args[0][0].double().numpy())
        )
        for name in LINEARS
    ]
    positions = torch.arange(hidden[0].shape[1])[None]
    rotary = model.model.rotary_emb(hidden[0], positions)
    outputs = [module(each, position_embeddings=rotary) for each in hidden]
    for hook in hooks:
        hook.remove()
    return outputs, read


def zeros_of(weight: np.ndarray) -> np.ndarray:
    return weight == 0


def count_zeros(weight: np.ndarray, group: int) -> np.ndarray:
    """Count the zeros of each row, or of each group of neighbours in it."""
    return (weight == 0).reshape(len(weight), -1, group or weight.shape[1]).sum(-1)


def find_lowest(scores: np.ndarray, spec: str) -> np.ndarray:
    """Return where a row's zeros go: `sparsity=50%` of it, or all but N of M neighbours; of equal ones the first."""
    kind, _, value = spec.partition("=")
    kept, group = map(int, value.split(":")) if kind == "pattern" else (0, scores.shape[1])
    gone = group - kept if kind == "pattern" else group * int(value[:-1]) // 100
    ranks = scores.reshape(len(scores), -1, group).argsort(-1, kind="stable").argsort(-1)
    return (ranks < gone).reshape(scores.shape)


def _go_through(
    model: Any,
    ids: np.ndarray,
    prune: Callable[[np.ndarray, list[np.ndarray]], np.ndarray],
    before: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Prune a Llama layer by layer, each by what it reads when those before it are pruned and it is not.

    With `before` those before it have these weights, and not the ones that were just made.
    """
    found: dict[str, np.ndarray] = {}
    hidden = [model.model.embed_tokens(torch.from_numpy(row)[None]) for row in ids]
    for layer, module in enumerate(model.model.layers):
        _, read = run_layer(model, layer, hidden)
        for name in LINEARS:
            weight = module.get_submodule(name).weight
            key = f"{layer}.{name}"
            found[key] = prune(weight.detach().double().numpy(), read[name])
            with torch.no_grad():
                weight.copy_(torch.from_numpy((before or found)[key]))
        hidden, _ = run_layer(model, layer, hidden)
    return found


def oracle_wanda(
    model: Any, ids: np.ndarray, spec: str, before: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """Where Wanda puts zeros: |W| times the root of the mean over sequences of the sum of squares."""

    def prune(weight: np.ndarray, read: list[np.ndarray]) -> np.ndarray:
        mean = np.zeros(weight.shape[1])
        for count, x in enumerate(read):  # the running mean of its authors
            mean = mean * count / (count + 1) + np.square(x).sum(0) / (count + 1)
        return np.where(find_lowest(np.abs(weight) * np.sqrt(mean), spec), 0, weight)

    return {name: zeros_of(weight) for name, weight in _go_through(model, ids, prune, before).items()}


def oracle_sparse_gpt(model: Any, ids: np.ndarray, spec: str, damping: float = 0.01) -> dict[str, np.ndarray]:
    """What SparseGPT makes of each matrix: column by column, each removal solved anew from the inverse Hessian."""

    def prune(weight: np.ndarray, read: list[np.ndarray]) -> np.ndarray:
        x = np.concatenate(read)
        return update(weight, 2 / len(read) * x.T @ x, spec, damping)

    return _go_through(model, ids, prune)


def update(weight: np.ndarray, hessian: np.ndarray, spec: str, damping: float = 0.01) -> np.ndarray:
    """Optimal brain surgery with the columns in order: what is left of the Hessian is inverted anew for each column."""
    kind, _, value = spec.partition("=")
    weight, columns = weight.copy(), weight.shape[1]
    hessian = hessian + damping * np.diag(hessian).mean() * np.eye(columns)
    left = [np.linalg.inv(hessian[first:, first:]) for first in range(columns)]
    costs = np.array([inverse[0, 0] for inverse in left])  # 1 over the cost of a square
    zeros = np.zeros(weight.shape, bool)
    for column in range(columns):
        if kind == "sparsity" and column % 128 == 0:
            here = slice(column, column + 128)
            block = (np.square(weight[:, here]) / costs[here]).ravel()
            marks = np.zeros(block.size, bool)
            marks[np.argsort(block, kind="stable")[: block.size * int(value[:-1]) // 100]] = True
            zeros[:, here] = marks.reshape(len(weight), -1)
        elif kind == "pattern":
            group = int(value.partition(":")[2])
            if column % group == 0:
                here = slice(column, column + group)
                zeros[:, here] = find_lowest(np.square(weight[:, here]) / costs[here], spec)
        removed = np.where(zeros[:, column], weight[:, column], 0)
        weight[:, column:] -= np.outer(removed / left[column][0, 0], left[column][0])
        weight[zeros[:, column], column] = 0
    return weight
