"""LoadedModel, Corpus -> [Importance]: what layers and sites contribute to groups of the others, as measures."""

from __future__ import annotations

from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Float64

from explorer.masks import PARTS, Mask, find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.importance import Importance
from explorer.measures.measure_type import Measure, MeasureSetting
from explorer.measures.shapley import measure_coalitions, measure_shapley
from explorer.numerics import LossFunction
from explorer.progress import Progress

_COALITIONS = 10  # a window, as Siddiqui et al. draw them


class _Game(Protocol):
    """Gives values and samples of units, in what the losses of a window are in."""

    def __call__(
        self, units: list[Mask], losses: LossFunction, n_windows: int, draws: int, seed: int, progress: Progress
    ) -> tuple[Float64[np.ndarray, " units"], Float64[np.ndarray, "samples units"]]: ...


def _take_coalition(setting: MeasureSetting) -> list[Importance]:
    return _play(setting, "coalition", measure_coalitions, _COALITIONS)


def _take_shapley(setting: MeasureSetting) -> list[Importance]:
    return _play(setting, "shapley", measure_shapley, setting.permutations)


def _play(setting: MeasureSetting, name: str, game: _Game, draws: int) -> list[Importance]:
    """Play a game of layers, or of sites, attention and MLPs together, or both: what the units wanted are in."""
    loaded, corpus = setting.loaded, setting.corpus
    losses = make_loss_function(loaded, corpus, setting.store, progress=setting.progress, base=setting.variant)
    found: list[Importance] = []
    for unit, players in (("layer", ("layer",)), ("site", PARTS)):
        if not set(players) & set(setting.units):
            continue
        units = find_units(loaded.n_layers, unit)
        left = [not each <= setting.variant.mask for each in units]
        playing = [each for each, stays in zip(units, left, strict=True) if stays]
        of_left = game(playing, losses, len(corpus.calibration), draws, setting.seed, setting.progress)
        values, samples = (_spread(each / (corpus.window - 1), left) for each in of_left)
        step = len(players)
        found += [Importance(name, part, values[i::step], samples[:, i::step]) for i, part in enumerate(players)]
    return found


def _spread(found: Float64[np.ndarray, "*samples units"], left: list[bool]) -> Float64[np.ndarray, "*samples values"]:
    """Put values in the places of the units that are left, and NaN in those of the others."""
    spread = np.full((*found.shape[:-1], len(left)), np.nan)
    spread[..., left] = found
    return spread


_define = partial(Measure, kind="coalition", needs="logits", cost="a pass a mask", unit_of="nats a token")

COALITION = _define(
    name="coalition", label="Coalition influence", source="Siddiqui et al., arXiv:2407.16286",
    formula=r"$\mathbb{E}[L_S \mid i \notin S] - \mathbb{E}[L_S \mid i \in S]$, $L_S$ the mean loss with the set S on",
    function=_take_coalition, options=("seed",),
)  # fmt: skip
SHAPLEY = _define(
    name="shapley", label="Shapley value", source="Castro et al., Computers & Operations Research 36, 2009",
    formula=r"$\mathbb{E}_\pi [L_{S \setminus i} - L_S]$, S what is on when its turn comes in the random order $\pi$",
    function=_take_shapley, options=("permutations", "seed"),
)  # fmt: skip
