"""Zeros, and survivors that make up for them by the inverse Hessian: SparseGPT, arXiv:2301.00774."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from explorer.errors import ModifyError
from explorer.modifiers import Fitted, LinearMap, Modifier, Option, Setting
from explorer.sparsity.allocation import ALLOCATION, allocate
from explorer.sparsity.sparsity import SPARSITY_OPTIONS, Sparsity, find_lowest
from explorer.sparsity.stream import Stream, sum_products
from explorer.sparsity.targets import LAYERS, TARGETS

_COLUMNS = 128  # judged together, and updated before what is after them
_SMALL = 192  # rows of a triangular matrix that is not halved further

#: A matrix, or one an expert, among others of as many columns.
_Matrix = Float[Tensor, "*experts _ columns"]


def factor_inverse(hessian: Float64[Tensor, "columns columns"], damping: float) -> Float64[Tensor, "columns columns"]:
    """Return U, upper triangular with U'U = (H + d mean(diag H) I)^-1; columns that read nothing have 1 for H_jj.

    Taken from the last column to the first, H is RR' with R upper triangular; U is the inverse of R.

    Args:
        hessian: its upper triangle is read.
        damping: d.

    Raises ModifyError: H is not positive definite in float64.
    """
    diagonal = hessian.diagonal()
    diagonal = torch.where(diagonal == 0, 1.0, diagonal)
    damped = hessian.clone()
    damped.diagonal().copy_(diagonal + damping * diagonal.mean())
    lower, failed = torch.linalg.cholesky_ex(damped.flip(0, 1))
    if failed:
        raise ModifyError(
            "The Hessian has no Cholesky factor", f"damping is {damping:g}", "Use more damping, such as damping=0.1"
        )
    return _invert(lower.flip(0, 1))


def _invert(upper: Float64[Tensor, "columns columns"]) -> Float64[Tensor, "columns columns"]:
    """Invert an upper triangular matrix by its halves: what is below the diagonal costs nothing."""
    size = len(upper)
    if size <= _SMALL:
        return torch.linalg.solve_triangular(upper, torch.eye(size, dtype=upper.dtype, device=upper.device), upper=True)
    half, found = size // 2, torch.zeros_like(upper)
    first, second = slice(half), slice(half, size)
    found[first, first], found[second, second] = _invert(upper[first, first]), _invert(upper[second, second])
    found[first, second] = -(found[first, first] @ upper[first, second]) @ found[second, second]
    return found


def prune_and_update(
    weights: Sequence[Float[Tensor, "_ columns"]], factor: Float[Tensor, "columns columns"], sparsity: Sparsity
) -> list[tuple[Float[Tensor, "_ columns"], Float[Tensor, "_ columns"]]]:
    """Go through the columns, zero those entries of each that cost least, and spread what that costs over later ones.

    What an entry costs is w^2 / U_ii^2. A share is taken of 128 columns, all rows of a matrix together; a pattern of
    each group of a row when its first column's turn has come.

    Args:
        weights: matrices that read the same.
        factor: U, of the Hessian of what they read.
        sparsity: how many zeros.

    Return each matrix as it becomes, and what each entry cost when it was judged.
    """
    rows = [len(weight) for weight in weights]
    columns = torch.cat([weight.T for weight in weights], dim=1)  # one after the other in memory
    costs, group = torch.empty_like(columns), sparsity.group or 1
    step = max(_COLUMNS // group, 1) * group
    for start in range(0, len(columns), step):
        here, after = slice(start, min(start + step, len(columns))), slice(start + step, None)
        errors = _prune_columns(columns[here], costs[here], factor[here, here], sparsity, rows)
        columns[after].addmm_(factor[here, after].T, errors, alpha=-1)
    parts = zip(columns.split(rows, dim=1), costs.split(rows, dim=1), strict=True)
    return [(made.T.contiguous(), cost.T.contiguous()) for made, cost in parts]


def _prune_columns(
    columns: Float[Tensor, "columns rows"],
    costs: Float[Tensor, "columns rows"],
    factor: Float[Tensor, "columns columns"],
    sparsity: Sparsity,
    rows: list[int],
) -> Float[Tensor, "columns rows"]:
    """Prune some columns in place, note what they cost; return each removal's error, for the columns after them."""
    diagonal = factor.diagonal()[:, None]
    step = sparsity.group or len(columns)
    zeros = torch.empty_like(columns, dtype=torch.bool)
    errors, shares = torch.empty_like(columns), torch.empty_like(columns)  # shares: 1 / U_ii where a zero will be
    for column, (values, share, error) in enumerate(zip(columns, shares, errors, strict=True)):
        if column % step == 0:
            group = slice(column, column + step)
            torch.div(columns[group], diagonal[group], out=costs[group]).square_()
            zeros[group] = _find_cheapest(costs[group], sparsity, rows)
            torch.div(zeros[group], diagonal[group], out=shares[group])
        torch.mul(values, share, out=error)
        columns[column + 1 :].addr_(factor[column, column + 1 :], error, alpha=-1)
    columns.masked_fill_(zeros, 0)
    return errors


def _find_cheapest(
    costs: Float[Tensor, "columns rows"], sparsity: Sparsity, rows: list[int]
) -> Bool[Tensor, "columns rows"]:
    """Return where the zeros go among columns that are judged together."""
    if sparsity.group:
        return sparsity.find_lowest(costs.T).T
    flat = [each.T.flatten() for each in costs.split(rows, dim=1)]
    lowest = [find_lowest(each, sparsity.count(len(each))) for each in flat]
    return torch.cat([each.view(-1, len(costs)).T for each in lowest], dim=1)


def fit_sparse_gpt(setting: Setting) -> Fitted:
    """Prune and update the maps of one layer after the other; those that read the same share a factor."""
    stream, damping = Stream(setting), setting.number("damping") / 100
    for target in stream.prune(allocate(setting)):
        hessians = stream.sum_up(target, sum_products)
        sharing: dict[int, list[LinearMap]] = {}
        for linear in target.maps:
            sharing.setdefault(id(hessians[linear.name]), []).append(linear)
        for maps in sharing.values():
            weights = [target.weight(linear) for linear in maps]
            pruned = _prune_matrices(weights, hessians[maps[0].name], damping, target.sparsity)
            for linear, (made, costs) in zip(maps, pruned, strict=True):
                target.tell(linear, costs, made == 0)
                target.put(linear, made)
    return setting.fitted


def _prune_matrices(
    weights: list[_Matrix], hessian: Float64[Tensor, "*experts columns columns"], damping: float, sparsity: Sparsity
) -> list[tuple[_Matrix, _Matrix]]:
    """Prune matrices, or one expert's after the other; one that reads nothing loses its smallest weights."""
    if hessian.ndim > 2:
        experts = [
            _prune_matrices([weight[expert] for weight in weights], each, damping, sparsity)
            for expert, each in enumerate(hessian)
        ]
        return [
            (torch.stack([made for made, _ in each]), torch.stack([costs for _, costs in each]))
            for each in zip(*experts, strict=True)
        ]
    dead: Bool[Tensor, " columns"] = (hessian.diagonal() == 0) & bool(hessian.any())
    factor = factor_inverse(hessian, damping).float()
    return prune_and_update([weight.masked_fill(dead, 0) for weight in weights], factor, sparsity)


SPARSE_GPT = Modifier(
    "sparsegpt", "SparseGPT", "SparseGPT, arXiv:2301.00774", "weights",
    "The weights that cost least become zeros, those after them in a row make up for it.", "two passes, and solves",
    fit_sparse_gpt,
    (*SPARSITY_OPTIONS, TARGETS, LAYERS, ALLOCATION, Option("damping", "percent of the Hessian's mean diagonal", "1")),
    needs_mask=False,
)  # fmt: skip
