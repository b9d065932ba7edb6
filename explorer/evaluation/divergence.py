"""LoadedModel, Corpus, [Variant] -> [Divergence]: how far predictions move, beyond what the loss says.

The unpruned logits of a block of positions are computed once and compared with those of every variant; no logits are
kept, only last hidden states.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float64
from torch.nn import functional as F

from explorer.deltas import Variant
from explorer.evaluation.breadth_first import Branch, run_breadth_first
from explorer.evaluation.executor import Assignment, fill_by_others
from explorer.evaluation.hidden_state_cache import HiddenStateCache
from explorer.evaluation.last_token_turn import find_turn, make_turn_context
from explorer.evaluation.nll import slice_positions
from explorer.evaluation.prefix_tree import run_beside
from explorer.masks import NONE, Mask
from explorer.model import BatchedWindows, Hidden, Ids, LoadedModel, ModelWrappers
from explorer.numerics import Interval, t_interval
from explorer.progress import Progress, unreported
from explorer.storage import Store
from explorer.text import Corpus, Split, Windows

#: Bytes of last hidden states that wait to be compared.
_WAITING_BYTES = {"cpu": 2**27, "cuda": 2**31}

_Ended = tuple[list[Mask | Variant], Hidden]  # variants, and their last layer's output
#: Windows, and for variants (nll, KL, logit L2, top-1 matches, cosine distance of the last token) of each of them.
_Compared = tuple[slice, list[tuple[Mask | Variant, Float64[np.ndarray, "batch 5"]]]]


@dataclass(frozen=True)
class Divergence:
    """How far a variant's predictions are from the unpruned model's, on each window.

    Args:
        variant: what was off, and changed.
        kl: KL(unpruned || variant) in nats, summed over the predicted tokens; infinite, as the
            others, where the arithmetic of either overflowed.
        logit_l2: L2 norm of the difference of logits, summed over them.
        top1_matches: how many have the same most likely token.
        tokens: predicted tokens in each window.
    """

    variant: Mask | Variant
    kl: Float64[np.ndarray, " windows"]
    logit_l2: Float64[np.ndarray, " windows"]
    top1_matches: Float64[np.ndarray, " windows"]
    tokens: int

    @property
    def mask(self) -> Mask:
        """The sites that were off."""
        return self.variant.mask

    @property
    def kl_per_token(self) -> float:
        """Mean KL divergence from the unpruned model, nats a token."""
        return float(self.kl.mean()) / self.tokens

    @property
    def kl_ci95(self) -> Interval | None:
        """95% t-interval of the same over windows; None with fewer than two windows."""
        return t_interval(self.kl / self.tokens)

    @property
    def logit_l2_per_token(self) -> float:
        """Mean L2 distance of the logits of a token (Siddiqui et al., arXiv:2407.16286)."""
        return float(self.logit_l2.mean()) / self.tokens

    @property
    def top1_agreement(self) -> float:
        """Share of tokens whose most likely next token stays the same."""
        return float(self.top1_matches.mean()) / self.tokens


def measure_divergence(
    loaded: LoadedModel,
    corpus: Corpus,
    variants: Sequence[Mask | Variant],
    store: Store,
    split: Split = "held-out",
    progress: Progress = unreported,
    rows: slice = slice(None),
    baseline: Mask | Variant = NONE,
    state_cache: HiddenStateCache | None = None,
) -> list[Divergence]:
    """Compare variants with the unpruned model on one split, in the order given. What is stored is not computed again.

    With a baseline they are compared with that variant. Its states are kept in the cache, if there is one, for the next
    call on the same windows.

    The nats of the same variants are stored along the way, for `score`, and of calibration windows how far the last
    token's state turns from the unpruned model's, for searches by it.

    KL divergence from the unpruned model, top-1 agreement, and the logit distance of Siddiqui et al.
    (arXiv:2407.16286): the mean over tokens of the L2 norm of the difference of pre-softmax logits.

    Raises:
        MaskError: a variant names a layer that the model lacks.
        DeviceError: out of memory with a single window.
        Cancelled: `progress` raised it; what was finished stays stored.
    """
    windows = corpus.split(split)[rows]
    asked = list(dict.fromkeys(variant.checked(loaded.n_layers) for variant in variants))

    def work(size: int) -> list[Divergence]:
        context = loaded.numerics_key(size)
        beside = {context: 0}  # what is stored beside, and its column
        if split == "calibration" and not baseline:
            beside[make_turn_context(context)] = 4
        keys = {variant: f"{variant.key} from {baseline.key}" if baseline else variant.key for variant in asked}

        def look_up() -> dict[Mask | Variant, dict[str, tuple[float, ...]]]:
            found = store.divergences_of(context, windows.digests, keys.values())
            return {variant: found[key] for variant, key in keys.items()}

        known = look_up()
        fill = partial(_fill, split=split, baseline=baseline)
        if fill_by_others(fill, Assignment(loaded, windows, asked, store, progress), known, size):
            known = look_up()
        total, done = sum(digest not in found for found in known.values() for digest in windows.digests), 0

        def missing(digests: Sequence[str]) -> list[Mask | Variant]:
            return [each for each in asked if any(digest not in known[each] for digest in digests)]

        cut = BatchedWindows(loaded.wrappers, windows.ids, size, store.folder)
        if loaded.wrappers.stream is None:
            compared = _compare(cut, baseline, lambda part: missing(windows.digests[part]), state_cache)
        else:
            compared = _compare_by_layers(cut, baseline, missing(windows.digests), progress)
        for part, variants_compared in compared:
            digests = windows.digests[part]
            with store.together():
                for variant, batch in variants_compared:
                    found = batch[: len(digests)]
                    for of, column in beside.items():
                        new = zip(digests, found[:, column].tolist(), strict=True)
                        store.add_nll(of, [(digest, variant.key, n) for digest, n in new if math.isfinite(n)])
                    if variant in keys:  # the baseline may have come along
                        values = dict(zip(digests, map(tuple, found[:, 1:4].tolist()), strict=True))
                        rows = [(digest, keys[variant], *each) for digest, each in values.items()]
                        store.add_divergences(context, rows)
                        known[variant].update(values)
                        done += len(digests)
            progress(min(done, total), total, f"Comparing {len(asked)} mask{'s' * (len(asked) > 1)}")
        return [_assemble(each, known[each], windows.digests, corpus.window - 1) for each in variants]

    return loaded.batch_shape.run(work, corpus.window)


def _fill(assigned: Assignment[Windows], split: Split, baseline: Mask | Variant) -> None:
    """Store the divergences that are assigned."""
    corpus = Corpus("", assigned.inputs, assigned.inputs, False)
    measure_divergence(
        assigned.loaded, corpus, assigned.variants, assigned.store, split, assigned.progress,
        baseline=baseline, state_cache=assigned.state_cache,
    )  # fmt: skip


def _assemble(
    variant: Mask | Variant, known: dict[str, tuple[float, ...]], digests: Sequence[str], tokens: int
) -> Divergence:
    values = np.array([known[digest] for digest in digests])
    return Divergence(variant, values[:, 0], values[:, 1], values[:, 2], tokens)


@torch.inference_mode()
def _compare(
    windows: BatchedWindows,
    baseline: Mask | Variant,
    missing: Callable[[slice], list[Mask | Variant]],
    state_cache: HiddenStateCache | None,
) -> Iterator[_Compared]:
    """Compare what is missing, batch by batch, and the baseline with itself."""
    for rows, ids in windows.batches():
        if variants := missing(rows):
            found = run_beside(windows.wrappers, ids, baseline, variants, state_cache)
            ended = next(found)
            yield from _compare_batch(windows.wrappers, ended, chain([ended], found), rows, ids)


@torch.inference_mode()
def _compare_by_layers(
    windows: BatchedWindows, baseline: Mask | Variant, variants: Sequence[Mask | Variant], progress: Progress
) -> Iterator[_Compared]:
    """Compare variants of a streamed model, and the baseline with itself, if there are any."""
    start: Branch | None = None
    for level in run_breadth_first(windows, list(dict.fromkeys([baseline, *variants])) if variants else [], progress):
        start = start or next(branch for branch in level if baseline in branch.variants)
        for rows, ids in windows.batches():
            first = start.variants, windows.fill(start.states[rows])
            ended = ((branch.variants, windows.fill(branch.states[rows])) for branch in level)
            yield from _compare_batch(windows.wrappers, first, ended, rows, ids)


def _compare_batch(
    wrappers: ModelWrappers, baseline: _Ended, ended: Iterable[_Ended], rows: slice, ids: Ids
) -> Iterator[_Compared]:
    """Compare last hidden states with the baseline's, some variants at a time."""
    limit = _WAITING_BYTES.get(baseline[1].device.type, _WAITING_BYTES["cpu"])
    waiting: list[_Ended] = []
    for group in ended:
        waiting.append(group)
        if len(waiting) * baseline[1].nbytes > limit:
            yield rows, list(_read(wrappers, baseline, waiting, ids))
            waiting = []
    if waiting:
        yield rows, list(_read(wrappers, baseline, waiting, ids))


def _read(
    wrappers: ModelWrappers, baseline: _Ended, waiting: Sequence[_Ended], ids: Ids
) -> Iterator[tuple[Mask | Variant, Float64[np.ndarray, "batch 5"]]]:
    """Compare last hidden states with the baseline's, block by block of positions."""
    finished = [wrappers.finish(hidden) for _, hidden in (baseline, *waiting)]
    first, *others = [each[:, :-1] for each in finished]
    before, *after = [each[:, -1].double().cpu() for each in finished]
    targets = ids[:, 1:].to(first.device)
    found = torch.zeros((len(waiting), 4, *targets.shape), dtype=torch.float64)
    for block in slice_positions(wrappers, targets.shape, first.device.type):
        logits = wrappers.logits(first[block].flatten(0, 1), baseline[0][0]).float()
        logs, shape, likeliest = logits.log_softmax(-1), targets[block].shape, logits.argmax(-1)
        probabilities = logs.exp()
        for values, other, (group, _) in zip(found, others, waiting, strict=True):
            moved = wrappers.logits(other[block].flatten(0, 1), group[0]).float()
            moved_logs, same = moved.log_softmax(-1), moved.argmax(-1) == likeliest
            nll = F.nll_loss(moved_logs, targets[block].flatten().to(moved.device), reduction="none")
            # in place: each new tensor of this size costs more than what is reckoned in it
            kl = moved_logs.sub_(logs).mul_(probabilities).sum(-1).neg_()
            distance = moved.sub_(logits).norm(dim=-1)
            of_tokens = torch.stack([x.double() for x in (nll, kl, distance, same)])
            values[:, *block] = of_tokens.view(4, *shape).cpu()
    for (group, _), values, last in zip(waiting, found, after, strict=True):
        columns = [each.sum(1) for each in values]  # each as `score` sums it, to the last bit
        sums = torch.stack([*columns, find_turn(before, last)], dim=1).numpy()
        sums[~np.isfinite(sums).all(axis=1)] = np.inf
        yield from ((variant, sums) for variant in group)
