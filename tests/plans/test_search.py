"""Searches: against every subset of a model of six layers, and against games in which greed goes wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pytest

from explorer.evaluation.perplexity import score
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.model.loading import LoadedModel
from explorer.plans.search import Search, SearchResult
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.tiny_models import REPOSITORY, WINDOW, Tiny

LAYERS = find_units(6, "layer")
N_WINDOWS = 6


class Table:
    """LossFunction (masks, windows) of every subset, counted."""

    def __init__(self, nll: dict[Mask, np.ndarray]) -> None:
        self.nll = nll
        self.asked: list[tuple[Mask, int]] = []

    def __call__(self, masks: Sequence[Mask], rows: slice) -> np.ndarray:
        self.asked += [(mask, window) for mask in masks for window in range(rows.start, rows.stop)]
        return np.stack([self.nll[mask][rows] for mask in masks])

    def total(self, mask: Mask) -> float:
        return float(self.nll[mask].sum())

    def best(self, size: int) -> Mask:
        return min((mask for mask in self.nll if len(mask.sites) == 2 * size), key=self.total)

    def search(self, confidence: float = 1.0, steps: int = 5, **options) -> Search:
        return Search(LAYERS, self, N_WINDOWS, steps, confidence, **options)


def subsets() -> list[Mask]:
    return [Mask.of_layers(chosen) for size in range(7) for chosen in combinations(range(6), size)]


@pytest.fixture(scope="module")
def model_nll(tiny: Tiny) -> dict[Mask, np.ndarray]:
    """Nats of all 64 subsets of a real, if tiny, model's layers."""
    loaded = tiny.load("qwen3")
    corpus = loaded.tokenize("python-docs", N_WINDOWS * WINDOW, WINDOW)
    return {s.mask: s.nll for s in score(loaded, corpus, subsets(), Store(None), "calibration")}


@pytest.fixture
def table(model_nll: dict[Mask, np.ndarray]) -> Table:
    return Table(model_nll)


def rough(seed: int) -> Table:
    """A game whose losses have no order at all: greed is often wrong."""
    rng = np.random.default_rng(seed)
    return Table({m: 100 + 10 * len(m.sites) + rng.normal(0, 12) + rng.normal(0, 1, N_WINDOWS) for m in subsets()})


def by_hand(table: Table, steps: int) -> list[Mask]:
    """Greedy as BlockPruner defines it."""
    masks = [NONE]
    for _ in range(steps):
        grown = [Mask(masks[-1].sites | unit.sites) for unit in LAYERS if not unit.sites <= masks[-1].sites]
        masks.append(min(grown, key=table.total))
    return masks


def test_greedy_is_what_the_definition_says(table: Table) -> None:
    for each in (table, *map(rough, range(5))):
        found = each.search().greedy()
        assert list(found.masks) == by_hand(each, 5)
        assert found.losses[1:] == pytest.approx([each.total(mask) for mask in found.masks[1:]])
        assert found.evaluations == tuple(n * N_WINDOWS for n in (0, 6, 5, 4, 3, 2))
        assert len(each.asked) == sum(found.evaluations)


def growing(seed: int) -> Table:
    """A game in which no removal costs less beside more that is off."""
    rng = np.random.default_rng(seed)
    single, pair = rng.exponential(5, 6), rng.exponential(1, (6, 6))
    costs = {}
    for size in range(7):
        for chosen in combinations(range(6), size):
            extra = sum(pair[i, j] for i, j in combinations(chosen, 2))
            costs[Mask.of_layers(chosen)] = 100 + single[list(chosen)].sum() + extra + np.zeros(N_WINDOWS)
    return Table(costs)


def test_lazily_it_is_greedy_for_less_where_costs_only_grow() -> None:
    asked = []
    for each in map(growing, range(20)):
        expected, found = each.search().greedy(), each.search().greedy_lazily()
        assert found.masks == expected.masks
        assert found.losses == expected.losses
        assert found.rankings[1] == expected.rankings[1]
        assert all(one <= other for one, other in zip(found.evaluations, expected.evaluations, strict=True))
        assert [set(ranking) for ranking in found.rankings] == [set(ranking) for ranking in expected.rankings]
        asked.append(sum(found.evaluations[2:]) / sum(expected.evaluations[2:]))
    assert np.mean(asked) < 0.9


def test_lazily_it_is_greedy_where_neighbours_cost_less_together() -> None:
    costs = {}
    for mask in subsets():
        off = sorted({site.layer for site in mask.sites})
        beside = sum(layer + 1 in off for layer in off)
        costs[mask] = np.full(N_WINDOWS, 100 + sum(10 + (layer - 2) ** 2 for layer in off) - 9 * beside)
    each = Table(costs)
    assert each.search().greedy_lazily().masks == each.search().greedy().masks


def test_lazily_what_overflows_is_asked_for_last() -> None:
    """All overflows but for one unit in the first step, and all with it off: the units go in their order."""
    costs = {mask: np.full(N_WINDOWS, np.inf if len(mask.sites) > 2 else 100.0) for mask in subsets()}
    for unit in LAYERS:
        costs[unit] = np.full(N_WINDOWS, 101.0 if unit == LAYERS[4] else np.inf)
    found = Table(costs).search(steps=3).greedy_lazily()
    assert found.masks[1:] == (Mask.parse("4"), Mask.parse("0,4"), Mask.parse("0-1,4"))
    assert found.losses[1:] == (101.0 * N_WINDOWS, np.inf, np.inf)


def test_a_beam_of_everything_finds_the_best_of_each_size(table: Table) -> None:
    for each in (table, *map(rough, range(5))):
        found = each.search().beam(100)
        assert list(found.masks[1:]) == [each.best(size) for size in range(1, 6)]


def test_regret_of_each_search(table: Table, record_property: Callable[[str, object], None]) -> None:
    regret: dict[str, float] = {}
    for number, each in enumerate((table, *map(rough, range(10)))):
        greedy = each.search().greedy()
        for name, found in (
            ("greedy", greedy),
            ("beam 2", each.search().beam(2)),
            ("beam 4", each.search().beam(4)),
            ("evolve 4", each.search().evolve(4, 0)),
        ):
            assert len(found.masks) == 6
            for size, (mask, loss) in enumerate(zip(found.masks, found.losses, strict=True)):
                assert len(mask.whole_layers) == size
                if size:
                    assert loss == pytest.approx(each.total(mask))
                    assert each.total(each.best(size)) <= loss + 1e-9
                    assert loss <= greedy.losses[size] + 1e-9, (name, number)
                    worse = (loss - each.total(each.best(size))) / N_WINDOWS
                    regret[name] = regret.get(name, 0) + (worse if number else 0)
    record_property("mean regret in rough games", {name: value / 50 for name, value in regret.items()})
    assert regret["beam 4"] <= regret["beam 2"] < regret["greedy"]
    assert regret["evolve 4"] < 0.8 * regret["greedy"]


def test_greedy_ranks_what_each_step_could_remove(table: Table) -> None:
    found = table.search().greedy()
    for step in range(1, 6):
        before, ranking = found.masks[step - 1], found.rankings[step]
        assert Mask(before.sites | ranking[0].sites) == found.masks[step]
        assert set(ranking) == {unit for unit in LAYERS if not unit.sites <= before.sites}
        totals = [table.total(Mask(before.sites | unit.sites)) for unit in ranking]
        assert totals == sorted(totals)


def test_greed_goes_wrong_where_two_stand_in_for_each_other() -> None:
    """0 is cheapest alone, but 1 and 2 together cost least of all pairs."""
    worth = {0: 1.0, 1: 2.0, 2: 2.0, 3: 9.0, 4: 9.0, 5: 9.0}

    def loss(mask: Mask) -> float:
        off = mask.whole_layers
        return sum(worth[layer] for layer in off) + 5.0 * (0 in off and len(off) > 1) - 3.5 * ({1, 2} <= off)

    table = Table({mask: loss(mask) + np.zeros(N_WINDOWS) for mask in subsets()})
    assert str(table.search(steps=2).greedy().masks[2]) == "0-1"
    assert str(table.search(steps=2).beam(3).masks[2]) == "1-2"
    assert str(table.search(steps=2).evolve(4, 0).masks[2]) == "1-2"


def test_races_cost_less_and_lose_little(table: Table) -> None:
    exact, quick = table.search().greedy(), table.search(0.95).greedy()
    assert sum(quick.evaluations) < sum(exact.evaluations)
    assert len(table.asked) == sum(quick.evaluations) + sum(exact.evaluations)
    for mask, loss in zip(quick.masks[1:], quick.losses[1:], strict=True):
        assert loss == pytest.approx(table.total(mask))
    assert quick.losses[-1] <= 1.05 * exact.losses[-1]


def test_evolution_spends_about_what_greed_does(table: Table) -> None:
    for each in (table, *map(rough, range(5))):
        greedy, found = each.search().greedy(), each.search().evolve(2, 0)
        for size in range(1, 6):
            spent = found.evaluations[size] - greedy.evaluations[size]
            assert spent < greedy.evaluations[size] + 8 * N_WINDOWS
        assert len(each.asked) == sum(greedy.evaluations) + sum(found.evaluations)


def test_the_seed_decides() -> None:
    found = [rough(3).search().evolve(1, seed).masks for seed in (0, 0, *range(1, 12))]
    assert found[0] == found[1]
    assert len(set(found)) > 1


def test_steps_and_enough_end_a_search(table: Table) -> None:
    for run in (Search.greedy, lambda s: s.beam(3), lambda s: s.evolve(3, 0)):
        assert len(run(table.search(steps=2)).masks) == 3
        assert len(run(table.search(enough=lambda mask: len(mask.whole_layers) >= 3)).masks) == 4
        assert len(run(Search(LAYERS[:2], table, N_WINDOWS, 99, 1.0)).masks) == 3
        assert run(table.search(enough=lambda mask: True)).masks == (NONE,)


@pytest.mark.parametrize("seed", range(8))
def test_what_is_found_for_a_budget_meets_it_at_no_more_than_greed(seed: int) -> None:
    """Layers free different amounts, so masks of one size do not all meet the budget."""
    table, freed = rough(seed), np.random.default_rng(seed).permutation([1, 2, 3, 4, 5, 6])

    def enough(mask: Mask) -> bool:
        return sum(int(freed[layer]) for layer in mask.whole_layers) >= 11

    greedy = table.search(enough=enough).greedy()
    assert enough(greedy.masks[-1])
    assert not any(map(enough, greedy.masks[:-1]))
    for run in (lambda s: s.beam(2), lambda s: s.beam(100), lambda s: s.evolve(4, 0)):
        found = run(table.search(enough=enough))
        assert enough(found.masks[-1])
        assert found.losses[-1] <= greedy.losses[-1] + 1e-9


def test_listener_and_progress_are_told_every_step(table: Table) -> None:
    told, done = list[SearchResult](), list[tuple[int, int]]()
    found = table.search(listener=told.append, progress=lambda at, total, what: done.append((at, total))).greedy()
    assert [len(each.masks) for each in told] == [2, 3, 4, 5, 6]
    assert told[-1] == found
    assert done[-1] == (2 * N_WINDOWS, 2 * N_WINDOWS)


def test_search_imports_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import explorer.measures.shapley, explorer.measures.interactions\n"
        "from explorer.plans.search import Search\n"
        "from explorer.masks.mask import Mask\n"
        "import numpy as np\n"
        "units = [Mask.of_layers([i]) for i in range(4)]\n"
        "losses = lambda masks, rows: np.array([[len(m.sites) + min(m.whole_layers)] * 8 for m in masks])[:, rows]\n"
        "for found in (Search(units, losses, 8, 3).greedy(), Search(units, losses, 8, 3).evolve(2, 0)):\n"
        "    print(*found.masks)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "none 0 0-1 0-2"


def test_batches_do_not_change_what_is_found(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: LoadedModel = tiny.load("qwen3")
    corpus: Corpus = loaded.tokenize("python-docs", 8 * WINDOW, WINDOW)

    def run() -> list[SearchResult]:
        search = Search(find_units(6, "site"), make_loss_function(loaded, corpus, Store(None)), 8, 4)
        return [search.greedy(), search.beam(2), search.evolve(2, 7)]

    whole = run()
    monkeypatch.setattr(loaded.batch_shape, "tokens", WINDOW)
    for found, before in zip(run(), whole, strict=True):
        assert (found.masks, found.evaluations) == (before.masks, before.evaluations)
