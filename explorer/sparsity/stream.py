"""One layer after the other as it still is, those before it pruned: what its linear maps read.

Windows go through one at a time and in an order of their own, so that a statistic depends neither on the size of
batches nor on the order of the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from explorer.model import Given, States, multiplying_as
from explorer.modifiers import ExpertMaps, Setting
from explorer.sparsity.layer_errors import find_errors
from explorer.sparsity.reads import list_reads
from explorer.sparsity.targets import Target
from explorer.sparsity.watcher import find_watcher, is_watched

_BLOCKS = 4  # of columns whose products with those before them are left out

#: Of one window, what a map reads -> what is summed over windows.
Statistic = Callable[[Float[Tensor, "positions columns"]], Float[Tensor, " *any"]]


class Stream:
    """The variant's states on their way through the layers. Holds the states before one layer.

    Args:
        setting: of the modifier.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.run = setting.run.one_by_one()
        self._ahead = 0
        self._watched: set[int] = set()

    @cached_property
    def states(self) -> States:
        """The input of the layer that it has come to."""
        return self.run.embed()

    def visit(self, targets: Iterable[Target], doing: str) -> Iterator[Target]:
        """Yield each layer when its input is known, then run it as it has become by then."""
        for target in targets:
            self.setting.progress(target.layer, self.setting.loaded.n_layers, f"{doing} layer {target.layer}")
            self._advance(target.layer)
            yield target
            self._count()

    def prune(self, targets: Sequence[Target], reads: bool = True) -> Iterator[Target]:
        """Yield each layer to be pruned; one that was pruned before the work was cut off is taken as it was made.

        Whoever watches is told of a layer when the next one is come to.

        Args:
            targets: in the order of the stream.
            reads: whether what the maps read is asked for; if not, layers are run only for whoever watches.
        """
        self._watched = {target.layer for target in targets} if is_watched() else set()
        for target in self.setting.steps(targets, lambda target: f"Pruning layer {target.layer}"):
            if reads or self._watched:
                self._advance(target.layer)
            yield target
            self._count()
        if self._watched:
            self._advance(targets[-1].layer + 1)
            self._count()

    def _advance(self, layer: int) -> None:
        """Take the states to the input of a layer."""
        states, variant = self.states, self.setting.variant
        for passed in range(self._ahead, layer):
            if passed in self._watched:
                find_watcher().layer(passed, partial(find_errors, self.run, states, variant, passed))
            self.run.run(passed, states, variant, into=states)
        self._ahead = layer

    def _count(self) -> None:
        """Count the layers run as the modifier's."""
        self.setting.run.layers_run += self.run.layers_run
        self.run.layers_run = 0

    def find_inputs(self, target: Target) -> Iterator[Given]:
        """Run a layer as it still is; yield, window by window, what its maps read."""
        names = tuple(dict.fromkeys(linear.watched for linear in target.maps))
        yield from self.run.find_inputs(target.layer, self.states, self.setting.variant, names)

    def sum_up(self, target: Target, statistic: Statistic) -> dict[str, Float64[Tensor, " *any"]]:
        """Sum a statistic of what each map reads over the windows; maps that read the same share one sum.

        Of maps of experts there is one statistic after the other, in one tensor.

        Raises ModifyError: the arithmetic overflows.
        """
        sums: dict[tuple[str, ...], Tensor] = {}
        for given in self.find_inputs(target):
            for names, reads in list_reads(target, given).items():
                with multiplying_as(reads[0].dtype):
                    made = [statistic(read.float()) for read in reads]
                if names not in sums:
                    sums[names] = torch.stack([each.double() for each in made])
                    continue
                for total, each in zip(sums[names], made, strict=True):
                    total += each
        self.setting.check_finite(all(bool(total.isfinite().all()) for total in sums.values()))
        stacked = {linear.name for linear in target.maps if isinstance(linear, ExpertMaps)}
        found: dict[str, Tensor] = {}
        for names, total in sums.items():
            own = total if stacked.issuperset(names) else total[0]
            for name in names:
                found[name] = found[name] + own if name in found else own
        return found


def sum_squares(read: Float[Tensor, "positions columns"]) -> Float[Tensor, " columns"]:
    """Sum over the tokens of the square of what is read in each column."""
    return read.square().sum(0)


def find_norms(squares: Float64[Tensor, "*experts columns"]) -> Float[Tensor, "*experts columns"]:
    """Return the norms of columns by their sums of squares; 1 throughout for what read nothing: its weights decide."""
    return torch.where((squares == 0).all(-1, keepdim=True), 1.0, squares).sqrt().float()


def sum_products(read: Float[Tensor, "positions columns"]) -> Float[Tensor, "columns columns"]:
    """Sum over the tokens of the products of what is read in any two columns; the upper triangle, and some below it."""
    columns = read.shape[1]
    found, step = read.new_zeros(columns, columns), -(-columns // _BLOCKS)
    for start in range(0, columns, step):
        found[start : start + step, start:] = read[:, start : start + step].T @ read[:, start:]
    return found
