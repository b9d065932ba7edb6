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
            for variant, found in shape.run(partial(self._run_group, trees, length), length).items():
                known[variant].update(found)
        return known

    def _round(self, length: int) -> int:
        """Round a number of tokens up, but not beyond the model's positions."""
        return max(length, min(-(-length // _STEP) * _STEP, self.loaded.positions or 2**31))

    def _run_group(self, trees: list[TokenTree], length: int, rows: int) -> _Known:
        context = make_key("answers", context=self.loaded.numerics_key(rows))
        known = {variant: self._look_up(context, variant, trees) for variant in self.variants}
        missing = [tree for tree in trees if _find_lacking(known, [tree])]
        self._tell(tree for tree in trees if not _find_lacking(known, [tree]))
        for part in slice_rows(len(missing), rows):
            batch = TreeBatch(self.loaded.wrappers, missing[part], length, rows)
            for variants, found in batch.judge(_find_lacking(known, batch.trees)):
                for variant in variants:
                    known[variant].update(found)
                    self.store.add_nll(context, _list_rows(variant, found))
            self._tell(batch.trees)
        return known

    def _tell(self, trees: Iterable[TokenTree]) -> None:
        """Tell that some trees are done; again, where memory ran out."""
        self.done.update(tree.digests[0] for tree in trees)
        what = f"Answering as {len(self.variants)} variant{'s' * (len(self.variants) > 1)}"
        self.progress(len(self.done), len(self.trees), what)

    def _look_up(self, context: str, variant: Mask | Variant, trees: list[TokenTree]) -> dict[str, Likelihood]:
        digests = [digest for tree in trees for digest in tree.digests]
        stored = self.store.nll(context, (name for digest in digests for name in _names(digest)), variant.key)
        return {
            digest: Likelihood(*(stored[name] for name in _names(digest)))
            for digest in digests
            if all(name in stored for name in _names(digest))
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
