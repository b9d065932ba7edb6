"""LoadedModel, [Item], [Variant] -> log-likelihoods: what items, and variants, have in common is run once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from explorer.benchmarks.request import Item, Likelihood
from explorer.benchmarks.shared_contexts import find_reach
from explorer.benchmarks.token_tree import TokenTree, plant
from explorer.benchmarks.tree_batch import TreeBatch
from explorer.deltas import Variant
from explorer.evaluation import Assignment, fill_by_others
from explorer.masks import NONE, Mask
from explorer.model import LoadedModel, slice_rows
from explorer.progress import Progress, unreported
from explorer.storage import Store, make_key

#: Token ids in a batch of trees at the most: with more, batches of few items would be filled up in vain.
_MOST_TOKENS = {"cpu": 128, "cuda": 16384}
_STEP = 8  # tokens by which the lengths of rows differ

#: Likelihoods by variant and digest of the request.
_Known = dict[Mask | Variant, dict[str, Likelihood]]


def find_likelihoods(
    loaded: LoadedModel,
    items: Sequence[Item],
    variants: Sequence[Mask | Variant],
    store: Store,
    progress: Progress = unreported,
) -> list[list[list[Likelihood]]]:
    """Return for each variant, item and request what the variant makes of it. What is stored is not computed again.

    An item is a tree of tokens: the context that its requests share is run once, and so is every prefix of layers that
    variants share. A number depends on the item and the variant alone. What is known of a batch is stored at once.

    Raises:
        MaskError: a variant names a layer that the model lacks.
        DeviceError: out of memory with a single item.
        Cancelled: `progress` raised it; what was finished stays stored.
    """
    asked = list(dict.fromkeys([NONE, *(variant.checked(loaded.n_layers) for variant in variants)]))
    reach = find_reach(loaded)
    planted = [list(_plant(item, reach)) for item in items]
    work = _Work(loaded, store, progress, asked, {tree.digests[0]: tree for trees in planted for tree in trees})
    known = work.run()
    return [
        [[known[variant][digest] for tree in trees for digest in tree.digests] for trees in planted]
        for variant in variants
    ]


def _plant(item: Item, reach: int) -> Iterator[TokenTree]:
    """Yield the tree of an item's requests; one of each, where the model does not read such a tree."""
    tree = plant(item)
    if tree.is_path or int(tree.depths.max()) < reach:
        yield tree
    else:
        yield from (plant([request]) for request in item)


@dataclass(frozen=True)
class _Trees:
    """Trees that go through the model in rows of one length: all paths, or none of them."""

    trees: list[TokenTree]
    length: int

    @property
    def digests(self) -> tuple[str, ...]:
        """A digest for each."""
        return tuple(tree.digests[0] for tree in self.trees)

    def __getitem__(self, rows: list[int]) -> _Trees:
        """Return some of them."""
        return _Trees([self.trees[row] for row in rows], self.length)


def _fill(assigned: Assignment[_Trees]) -> None:
    """Store the likelihoods that are assigned, of the unpruned model too."""
    trees, variants = assigned.inputs, list(dict.fromkeys([NONE, *assigned.variants]))
    named = dict(zip(trees.digests, trees.trees, strict=True))
    work = _Work(assigned.loaded, assigned.store, assigned.progress, variants, named)
    work.run_group(trees, assigned.loaded.batch_shape.rows(trees.length))


@dataclass
class _Work:
    """Finds the likelihoods of all requests of some trees: what is stored at once, the rest batch by batch."""

    loaded: LoadedModel
    store: Store
    progress: Progress
    variants: Sequence[Mask | Variant]
    trees: Mapping[str, TokenTree]
    done: set[str] = field(default_factory=set)

    def run(self) -> _Known:
        """Find them; trees of one kind and length make batches."""
        groups: dict[tuple[bool, int], list[TokenTree]] = defaultdict(list)
        for tree in self.trees.values():
            groups[tree.is_path, self._round(len(tree))].append(tree)
        shape = self.loaded.batch_shape.limited(_MOST_TOKENS.get(self.loaded.device.type, _MOST_TOKENS["cpu"]))
        known: _Known = {variant: {} for variant in self.variants}
        for (_, length), trees in sorted(groups.items(), key=lambda each: each[0]):
            for variant, found in shape.run(partial(self.run_group, _Trees(trees, length)), length).items():
                known[variant].update(found)
        return known

    def _round(self, length: int) -> int:
        """Round a number of tokens up, but not beyond the model's positions."""
        return max(length, min(-(-length // _STEP) * _STEP, self.loaded.positions or 2**31))

    def run_group(self, group: _Trees, rows: int) -> _Known:
        """Find them of trees that make batches of so many rows."""
        context, trees = make_key("answers", context=self.loaded.numerics_key(rows)), group.trees
        known = self._look_up(context, trees)
        whole = {
            variant: {tree.digests[0] for tree in trees if all(digest in found for digest in tree.digests)}
            for variant, found in known.items()
        }
        if fill_by_others(_fill, Assignment(self.loaded, group, self.variants, self.store, self.progress), whole, rows):
            known = self._look_up(context, trees)
        missing = [tree for tree in trees if _find_lacking(known, [tree])]
        self._tell(tree for tree in trees if not _find_lacking(known, [tree]))
        for part in slice_rows(len(missing), rows):
            batch = TreeBatch(self.loaded.wrappers, missing[part], group.length, rows)
            rows_found = []
            for variants, found in batch.judge(_find_lacking(known, batch.trees)):
                for variant in variants:
                    known[variant].update(found)
                    rows_found += _list_rows(variant, found)
            self.store.add_nll(context, rows_found)
            self._tell(batch.trees)
        return known

    def _tell(self, trees: Iterable[TokenTree]) -> None:
        """Tell that some trees are done; again, where memory ran out."""
        self.done.update(tree.digests[0] for tree in trees)
        what = f"Answering as {len(self.variants)} variant{'s' * (len(self.variants) > 1)}"
        self.progress(len(self.done), len(self.trees), what)

    def _look_up(self, context: str, trees: list[TokenTree]) -> _Known:
        digests = [digest for tree in trees for digest in tree.digests]
        names = {digest: _names(digest) for digest in digests}
        keys = {variant: variant.key for variant in self.variants}
        found = self.store.nll_of(context, (name for each in names.values() for name in each), keys.values())
        return {
            variant: {
                digest: Likelihood(*(found[key][name] for name in each))
                for digest, each in names.items()
                if all(name in found[key] for name in each)
            }
            for variant, key in keys.items()
        }


def _find_lacking(known: _Known, trees: Iterable[TokenTree]) -> list[Mask | Variant]:
    """List the variants of which something of some trees is not known."""
    digests = [digest for tree in trees for digest in tree.digests]
    return [variant for variant, found in known.items() if any(digest not in found for digest in digests)]


def _names(digest: str) -> list[str]:
    """List the names under which the numbers of a request are stored, in the order of `Likelihood`."""
    return [f"{digest}/{name}" for name in Likelihood._fields]


def _list_rows(variant: Mask | Variant, found: Mapping[str, Likelihood]) -> list[tuple[str, str, float]]:
    return [
        (name, variant.key, number)
        for digest, numbers in found.items()
        for name, number in zip(_names(digest), numbers, strict=True)
    ]
