"""Zeros, and survivors that make up for them by the inverse Hessian: SparseGPT, arXiv:2301.00774."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from explorer.errors import ModifyError
from explorer.modifiers import Fitted, Modifier, Option, Setting
from explorer.sparsity.allocation import ALLOCATION, allocate
from explorer.sparsity.sparsity import SPARSITY_OPTIONS, Entries, Sparsity, find_lowest
from explorer.sparsity.stream import Stream, sum_products
from explorer.sparsity.targets import LAYERS, TARGETS

_COLUMNS = 128  # judged together, and updated before what is after them


def factor_inverse(hessian: Float64[Tensor, "columns columns"], damping: float) -> Float64[Tensor, "columns columns"]:
    """Return U, upper triangular with U'U = (H + d mean(diag H) I)^-1; columns that read nothing have 1 for H_jj.

    Raises ModifyError: H is not positive definite in float64.
    """
    diagonal = hessian.diagonal()
    diagonal = torch.where(diagonal == 0, 1.0, diagonal)
    damped = hessian.clone()
    damped.diagonal().copy_(diagonal + damping * diagonal.mean())
    lower, failed = torch.linalg.cholesky_ex(damped)
    if not failed:
        factor, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if failed:
        raise ModifyError(
            "The Hessian has no Cholesky factor", f"damping is {damping:g}", "Use more damping, such as damping=0.1"
        )
    return factor


def prune_and_update(
    weight: Float[Tensor, "outputs columns"], factor: Float[Tensor, "columns columns"], sparsity: Sparsity
) -> tuple[Float[Tensor, "outputs columns"], Float[Tensor, "outputs columns"]]:
    """Go through the columns, zero those entries of each that cost least, and spread what that costs over later ones.

    What an entry costs is w^2 / U_ii^2. A share is taken of 128 columns, all rows together; a pattern of each group of
    a row when its first column's turn has come. Return the weights, and what each entry cost when it was judged.
    """
    weight, costs = weight.clone(), torch.empty_like(weight)
    group = sparsity.group or 1
    step = max(_COLUMNS // group, 1) * group
    for start in range(0, weight.shape[1], step):
        here = slice(start, min(start + step, weight.shape[1]))
        errors = _prune_columns(weight[:, here], costs[:, here], factor[here, here], sparsity)
        weight[:, here.stop :] -= errors @ factor[here, here.stop :]
    return weight, costs


def _prune_columns(
    weight: Float[Tensor, "outputs columns"],
    costs: Float[Tensor, "outputs columns"],
    factor: Float[Tensor, "columns columns"],
    sparsity: Sparsity,
) -> Float[Tensor, "outputs columns"]:
    """Prune some columns in place, note what they cost; return each removal's error, for the columns after them."""
    diagonal, errors = factor.diagonal(), torch.zeros_like(weight)
    zeros = torch.zeros_like(weight, dtype=torch.bool)
    if not sparsity.group:
        costs[:] = (weight / diagonal).square()
        zeros = find_lowest(costs.flatten(), sparsity.count(costs.numel())).view_as(zeros)
    for column in range(weight.shape[1]):
        if sparsity.group and column % sparsity.group == 0:
            group = slice(column, column + sparsity.group)
            costs[:, group] = (weight[:, group] / diagonal[group]).square()
            zeros[:, group] = sparsity.find_lowest(costs[:, group])
        removed = weight[:, column].where(zeros[:, column], 0)
        errors[:, column] = removed / diagonal[column]
        weight[:, column:] -= errors[:, column, None] * factor[column, column:]
        weight[:, column].masked_fill_(zeros[:, column], 0)
    return errors


def fit_sparse_gpt(setting: Setting) -> Fitted:
    """Prune and update the maps of one layer after the other."""
    stream, damping = Stream(setting), setting.number("damping") / 100
    for target in stream.prune(allocate(setting)):
        hessians = stream.sum_up(target, sum_products)
        for linear in target.maps:
            made, costs = _prune_matrix(target.weight(linear), hessians[linear.name], damping, target.sparsity)
            target.tell(linear, costs, made == 0)
            target.put(linear, made)
    return setting.fitted


def _prune_matrix(
    weight: Entries, hessian: Float64[Tensor, "*experts columns columns"], damping: float, sparsity: Sparsity
) -> tuple[Entries, Entries]:
    """Prune a matrix, or one expert's after the other; one that reads nothing loses its smallest weights."""
    if weight.ndim > 2:
        each = zip(weight, hessian, strict=True)
        made, costs = zip(*(_prune_matrix(*expert, damping, sparsity) for expert in each), strict=True)
        return torch.stack(made), torch.stack(costs)
    dead: Bool[Tensor, " columns"] = (hessian.diagonal() == 0) & bool(hessian.any())
    factor = factor_inverse(hessian, damping).float()
    return prune_and_update(weight.masked_fill(dead, 0), factor, sparsity)


SPARSE_GPT = Modifier(
    "sparsegpt", "SparseGPT", "SparseGPT, arXiv:2301.00774", "weights",
    "The weights that cost least become zeros, those after them in a row make up for it.", "two passes, and solves",
    fit_sparse_gpt,
    (*SPARSITY_OPTIONS, TARGETS, LAYERS, ALLOCATION, Option("damping", "percent of the Hessian's mean diagonal", "1")),
    needs_mask=False,
)  # fmt: skip
