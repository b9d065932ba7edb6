"""Trees of tokens that go through the model at once -> the likelihoods of their requests, as each of many variants."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from explorer.benchmarks.request import Likelihood
from explorer.benchmarks.shared_contexts import give_trees
from explorer.benchmarks.token_tree import TokenTree
from explorer.deltas import Variant
from explorer.evaluation import run_prefix_tree
from explorer.masks import NONE, Mask
from explorer.model import Hidden, LayerInputs, ModelWrappers

#: Places whose logits are found at once, always so many: those of one do not depend on how many others are wanted.
_TOGETHER = {"cpu": 32, "cuda": 256}

_LogProbabilities = Float[Tensor, "positions vocabulary"]


class TreeBatch:
    """Trees in rows of one length, filled up with the last one.

    Args:
        wrappers: of the model.
        trees: all paths, or none of them.
        length: tokens in a row.
        rows: how many there are to be.
    """

    def __init__(self, wrappers: ModelWrappers, trees: Sequence[TokenTree], length: int, rows: int) -> None:
        self.wrappers, self.trees, self.length = wrappers, trees, length
        self.filled = [*trees, *[trees[-1]] * (rows - len(trees))]
        requests = [(row, predictions) for row, tree in enumerate(trees) for predictions in tree.asked]
        predicted = [
            (number, row, place, token)
            for number, (row, predictions) in enumerate(requests)
            for place, token in predictions
        ]
        table = np.array(predicted, dtype=np.int64).reshape(-1, 4)
        self.requests, self.tokens, self.n_requests = table[:, 0], table[:, 3], len(requests)
        places, self.at = np.unique(table[:, 1:3], axis=0, return_inverse=True)  # each place once, whoever asks
        self.places = torch.from_numpy(places.T).to(wrappers.device)

    @torch.inference_mode()
    def judge(self, variants: Sequence[Mask | Variant]) -> Iterator[tuple[list[Mask | Variant], dict[str, Likelihood]]]:
        """Yield variants with the likelihoods of all requests, by digest. The unpruned model is run as well."""
        asked = list(dict.fromkeys([NONE, *variants]))
        ended = list(run_prefix_tree(self.wrappers, self._enter(), asked, None))
        ended.sort(key=lambda each: NONE not in each[0])
        states = [self._pick(hidden) for _, hidden in ended]
        numbers = np.zeros((len(ended), len(Likelihood._fields), len(self.at)))
        for start in range(0, states[0].shape[0], self._together):
            chosen = np.flatnonzero((self.at >= start) & (self.at < start + self._together))
            unpruned: _LogProbabilities | None = None
            for each, picked, (group, _) in zip(numbers, states, ended, strict=True):
                found = self._find_log_probabilities(picked[start : start + self._together], group[0])
                unpruned = found if unpruned is None else unpruned
                each[:, chosen] = self._compare(found, unpruned, self.at[chosen] - start, self.tokens[chosen])
        digests = [digest for tree in self.trees for digest in tree.digests]
        for (group, _), each in zip(ended, numbers, strict=True):
            yield group, dict(zip(digests, self._sum(each), strict=True))

    @property
    def _together(self) -> int:
        return _TOGETHER.get(self.wrappers.device.type, _TOGETHER["cpu"])

    def _enter(self) -> LayerInputs:
        """Run the model up to the first layer."""
        ids = torch.zeros((len(self.filled), self.length), dtype=torch.long)
        for row, tree in enumerate(self.filled):
            ids[row, : len(tree)] = torch.tensor(tree.ids)
        given = {} if self.trees[0].is_path else give_trees(self.filled, self.length, self.wrappers)
        return self.wrappers.layer_inputs(ids.to(self.wrappers.device), **given)

    def _pick(self, hidden: Hidden) -> Float[Tensor, "positions _"]:
        """Return what the final norm gives where predictions are wanted, filled up with zeros."""
        picked = self.wrappers.finish(hidden)[self.places[0], self.places[1]]
        return torch.nn.functional.pad(picked, (0, 0, 0, -len(picked) % self._together))

    def _find_log_probabilities(
        self, states: Float[Tensor, "positions width"], variant: Mask | Variant
    ) -> _LogProbabilities:
        """Return them in float32 whatever the model is in."""
        return self.wrappers.logits(states, variant).float().log_softmax(-1)

    def _compare(
        self,
        found: _LogProbabilities,
        unpruned: _LogProbabilities,
        at: Int64[np.ndarray, " chosen"],
        tokens: Int64[np.ndarray, " chosen"],
    ) -> Float64[np.ndarray, "values chosen"]:
        """Return for each prediction its nats, whether it is the most likely token, and sum min(p, q) at its place."""
        rows, columns = torch.from_numpy(at).to(found.device), torch.from_numpy(tokens).to(found.device)
        nll = -found[rows, columns].double()
        likeliest = found.argmax(-1)[rows] == columns
        common = torch.ones(len(found), device=found.device)
        if found is not unpruned:
            common = torch.minimum(found, unpruned).exp().sum(-1)
        numbers = torch.stack([nll.nan_to_num(math.inf), likeliest.double(), common.double()[rows].nan_to_num(0.0)])
        return numbers.cpu().numpy()

    def _sum(self, numbers: Float64[np.ndarray, "values positions"]) -> Iterator[Likelihood]:
        """Yield each request's likelihood from its predictions'."""
        nll, missed, accepted = (
            np.bincount(self.requests, each, self.n_requests) for each in (numbers[0], 1 - numbers[1], numbers[2])
        )
        for number in range(self.n_requests):
            yield Likelihood(float(nll[number]), float(missed[number] == 0), float(accepted[number]))
