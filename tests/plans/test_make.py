"""Plans: every method against a direct transcription of its formula, by plain transformers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from explorer.errors import PlanError
from explorer.masks.mask import NONE, Mask
from explorer.masks.units import find_units
from explorer.measures.measure import measure_importance
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import LoadedModel
from explorer.model.parameter_counts import count_parameters
from explorer.plans.catalogue import METHODS
from explorer.plans.make import make_plan
from explorer.plans.plan import Plan, PlanSpec
from explorer.storage.store import Store
from explorer.text.windows import Corpus, Windows
from tests.support import brute_force
from tests.support.tiny_models import WINDOW, Tiny

EVERY = [(name, unit) for name, method in METHODS.items() for unit in method.units]
ITERATIVE = [(name, unit) for name, method in METHODS.items() if method.iterative for unit in method.units]
Make = Callable[..., Plan]


@pytest.fixture
def make(llama: LoadedModel, llama_corpus: Corpus) -> Make:
    """Make a plan for the tiny llama, with nothing stored."""

    def made(text: str, store: Store | None = None, **options) -> Plan:
        return make_plan(llama, llama_corpus, PlanSpec.parse(text), store or Store(None), **options)

    return made


def nll(loaded: LoadedModel, corpus: Corpus, mask: Mask) -> float:
    model = brute_force.zeroed(loaded.checkpoint.folder, mask)
    return float(brute_force.window_nll(model, corpus.calibration.ids).sum())


def worth(loaded: LoadedModel, corpus: Corpus, method: str, off: Mask = NONE) -> dict[Mask, float]:
    """What every layer and site is worth by a method's formula, with some off."""
    folder, ids = loaded.checkpoint.folder, corpus.calibration.ids
    units = {unit: find_units(loaded.n_layers, unit) for unit in ("layer", "attention", "mlp")}
    if method == "leave-one-out":
        return {m: nll(loaded, corpus, Mask(off.sites | m.sites)) for each in units.values() for m in each}
    found: dict = {
        "taylor": lambda: brute_force.taylor(folder, ids),
        "magnitude": lambda: brute_force.magnitude(folder),
    }.get(method, lambda: brute_force.influences(brute_force.zeroed(folder, off), ids))()
    return {mask: value for unit, each in units.items() for mask, value in zip(each, found[unit], strict=True)}


def add_up(units: list[Mask]) -> list[Mask]:
    return [Mask(frozenset().union(*(unit.sites for unit in units[:k]))) for k in range(len(units) + 1)]


@pytest.mark.parametrize(("name", "unit"), EVERY)
def test_every_method_makes_a_plan_of_the_calibration_windows_alone(
    llama: LoadedModel, llama_corpus: Corpus, name: str, unit: str
) -> None:
    """Held-out windows of ids that do not exist: whoever looks at one fails."""
    blank = Windows(np.full_like(llama_corpus.held_out.ids, -1), llama_corpus.held_out.text_bytes)
    store, told = Store(None), list[Plan]()
    spec = PlanSpec(name, unit)
    plan = make_plan(llama, replace(llama_corpus, held_out=blank), spec, store, listener=told.append)
    sizes = {"layer": 2, "attention": 1, "mlp": 1, "site": 1}
    assert [len(mask.sites) for mask in plan.masks] == [k * sizes[unit] for k in range(8 if unit == "site" else 4)]
    assert plan.masks[0] == NONE
    assert all({site.part for site in mask.sites} <= {unit} for mask in plan.masks if unit in ("attention", "mlp"))
    assert plan.order is not None or name in ("similarity-block", "beam", "evolve")
    assert told[-1].masks == plan.masks
    tables = [f"SELECT DISTINCT window FROM {table}" for table in ("nll", "divergences")]
    asked = {window for table in tables for (window,) in store._db.execute(table)}
    assert asked <= set(llama_corpus.calibration.digests)
    assert bool(asked) == (METHODS[name].search or name in ("leave-one-out", "coalition", "shapley"))


@pytest.mark.parametrize("method", ["block-influence", "leave-one-out", "taylor", "magnitude"])
@pytest.mark.parametrize("unit", ["layer", "attention", "mlp", "site"])
def test_rankings_are_their_formulas(
    make: Make, llama: LoadedModel, llama_corpus: Corpus, method: str, unit: str
) -> None:
    values = worth(llama, llama_corpus, method)
    units = sorted(find_units(4, unit), key=values.__getitem__)
    assert list(make(f"{method}/{unit}").masks) == add_up(units)[:-1]


@pytest.mark.parametrize(
    ("method", "unit"), [("attention-drop", "attention"), ("mlp-drop", "mlp"), ("joint-drop", "site")]
)
def test_drops_rank_by_influence(make: Make, method: str, unit: str) -> None:
    assert make(method).masks == make(f"block-influence/{unit}").masks


@pytest.mark.parametrize(("name", "unit"), ITERATIVE)
def test_iterative_is_measuring_again_by_hand(tiny: Tiny, name: str, unit: str) -> None:
    loaded = tiny.load("qwen3")
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    left, expected = find_units(6, unit), [NONE]
    for _ in range(2):
        values = worth(loaded, corpus, name, expected[-1])
        left.remove(least := min(left, key=values.__getitem__))
        expected.append(Mask(expected[-1].sites | least.sites))
    spec = PlanSpec(name, unit, iterative=True, steps=2)
    assert list(make_plan(loaded, corpus, spec, Store(None)).masks) == expected


@pytest.mark.parametrize("name", ["block-influence", "leave-one-out"])
def test_iterative_differs_from_one_shot(tiny: Tiny, store: Store, name: str) -> None:
    loaded = tiny.load("qwen3")
    corpus = loaded.tokenize("python-docs", 3 * WINDOW, WINDOW)
    once, again = (make_plan(loaded, corpus, PlanSpec(name, iterative=i), store).masks for i in (False, True))
    assert once[:2] == again[:2]
    assert once != again


def test_deepest_goes_down_but_keeps_the_last(make: Make) -> None:
    assert make("deepest").order == ("2", "1", "0")
    assert make("deepest;protect=1").order == ("2", "0")
    assert make("deepest;protect=last1").order == ("2", "1", "0")


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_similarity_block_is_the_least_of_each_row_of_the_heatmap(tiny: Tiny, store: Store, name: str) -> None:
    loaded = tiny.load(name)
    corpus = loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)
    plan = make_plan(loaded, corpus, PlanSpec("similarity-block"), store)
    plain = brute_force.plain(loaded.checkpoint.folder)
    states, _ = brute_force.hidden_states(plain, corpus.calibration.ids)
    rows = brute_force.angular_distances(states, "last_token")
    assert len(plan.masks) == loaded.n_layers
    starts = measure_similarity(loaded, corpus, store).best_starts("last_token")
    for n in range(1, loaded.n_layers):
        start = int(np.argmin(rows[n - 1]))
        assert start == starts[n - 1]
        assert plan.masks[n] == Mask.of_layers(range(start, start + n))


def test_similarity_block_keeps_what_is_protected(make: Make, llama: LoadedModel, llama_corpus: Corpus) -> None:
    rows = measure_similarity(llama, llama_corpus, Store(None)).angular_distance("last_token")
    plan = make("similarity-block;protect=1")
    assert [str(mask) for mask in plan.masks] == ["none", min(("0", "2", "3"), key=lambda t: rows[0][int(t)]), "2-3"]


def test_random_is_a_seeded_permutation(make: Make) -> None:
    for seed in (0, 3):
        order = random.Random(seed).sample(find_units(4, "site"), 8)
        assert list(make(f"random/site;seed={seed}").masks) == add_up(order)[:-1]
    assert make("random/site;seed=0").masks != make("random/site;seed=3").masks


def test_coalition_ranks_by_its_measure(llama: LoadedModel, llama_corpus: Corpus, make: Make) -> None:
    for seed in (0, 3):
        found = measure_importance(llama, llama_corpus, ["coalition"], Store(None), units=["layer"], seed=seed)
        order = [str(layer) for layer in found[0].values.argsort(kind="stable")][:3]
        assert list(make(f"coalition/layer;seed={seed}").order or ()) == order


def test_shapley_ranks_by_the_values_of_as_many_permutations(
    make: Make, llama: LoadedModel, llama_corpus: Corpus
) -> None:
    for width, seed in ((1, 0), (3, 2)):
        (found,) = measure_importance(
            llama, llama_corpus, ["shapley"], Store(None), units=["layer"], permutations=width, seed=seed
        )
        expected = add_up([Mask.of_layers([int(layer)]) for layer in found.order])[:-1]
        assert list(make(f"shapley/layer;width={width};seed={seed}").masks) == expected


@pytest.mark.parametrize("unit", ["layer", "site"])
def test_greedy_is_blockpruner_by_hand(make: Make, llama: LoadedModel, llama_corpus: Corpus, unit: str) -> None:
    expected = [NONE]
    for _ in range(3):
        grown = [Mask(expected[-1].sites | u.sites) for u in find_units(4, unit) if not u.sites <= expected[-1].sites]
        expected.append(min(grown, key=lambda mask: nll(llama, llama_corpus, mask)))
    assert list(make(f"greedy/{unit};steps=3;confidence=1.0").masks) == expected
    assert make(f"leave-one-out/{unit};iterative=yes;steps=3").masks == tuple(expected)


@pytest.mark.parametrize("criterion", ["kl", "logit-l2"])
def test_greedy_by_another_criterion(make: Make, llama: LoadedModel, llama_corpus: Corpus, criterion: str) -> None:
    plan = make(f"greedy/layer;criterion={criterion};steps=1;confidence=1.0")
    ranked = measure_importance(llama, llama_corpus, [criterion], Store(None), units=["layer"])[0].order
    assert plan.masks[1] == Mask.of_layers([int(ranked[0])])


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("similarity-block", "deepest")])
def test_steps_and_protection_are_kept(make: Make, method: str) -> None:
    unit = METHODS[method].units[0]
    plan = make(f"{method}/{unit};steps=2;protect=first1,2")
    assert len(plan.masks) == 3
    assert {site.layer for site in plan.masks[-1].sites} <= {1, 3}
    assert len(make(f"{method}/{unit};protect=0,2").masks) == (5 if unit == "site" else 3)  # all that may go


def test_protecting_everything_is_one_line(make: Make) -> None:
    for text in ("random/layer;protect=0-3", "greedy/site;protect=first,last"):
        with pytest.raises(PlanError, match="Nothing may be removed") as error:
            make(text)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "method", ["deepest", "similarity-block", "random/site", "leave-one-out", "greedy", "beam", "evolve/layer"]
)
@pytest.mark.parametrize("budget", ["layers=2", "sites=3", "parameters=20%", "bytes=120kB", "kv=50%", "flops=25%"])
def test_budgets_end_a_plan(make: Make, llama: LoadedModel, method: str, budget: str) -> None:
    name, _, unit = method.partition("/")
    plan = make(f"{name}/{unit or METHODS[name].units[0]};budget={budget}")
    cost_model = count_parameters(llama.model, llama.architecture)
    costs = [cost_model.costs(mask, WINDOW) for mask in plan.masks]
    assert {
        "layers=2": lambda k: len(plan.masks[k].whole_layers) >= 2,
        "sites=3": lambda k: len(plan.masks[k].sites) >= 3,
        "parameters=20%": lambda k: costs[k].parameters <= 0.8 * costs[0].parameters,
        "bytes=120kB": lambda k: costs[k].bytes <= 120_000,
        "kv=50%": lambda k: costs[k].kv_bytes_per_token <= 0.5 * costs[0].kv_bytes_per_token,
        "flops=25%": lambda k: costs[k].flops_per_token <= 0.75 * costs[0].flops_per_token,
    }[budget](-1)
    assert len(plan.masks) > 1


def test_a_budget_ends_a_ranking_at_the_first_step_that_meets_it(make: Make) -> None:
    whole, cut = make("block-influence/site"), make("block-influence/site;budget=kv=50%")
    attentions = [sum(site.part == "attention" for site in mask.sites) for mask in whole.masks]
    assert cut.masks == whole.masks[: attentions.index(2) + 1]
    assert make("block-influence/layer;budget=bytes=1GiB").masks == (NONE,)  # fits as it is


def test_flops_are_those_of_a_window(make: Make, llama: LoadedModel) -> None:
    """The longer the context, the larger the share of an attention."""
    cost_model = count_parameters(llama.model, llama.architecture)

    def share(context: int) -> float:
        before, after = (cost_model.costs(mask, context).flops_per_token for mask in (NONE, Mask.parse("a3")))
        return 100 * (1 - after / before)

    assert share(WINDOW - 4) < share(WINDOW - 1) < share(WINDOW) < share(WINDOW + 1)
    assert len(make(f"attention-drop;budget=flops={share(WINDOW) - 1e-6:.9f}%").masks) == 2
    assert len(make(f"attention-drop;budget=flops={share(WINDOW) + 1e-6:.9f}%").masks) == 3


@pytest.mark.parametrize(
    "text", ["mlp-drop;budget=kv=10%", "greedy/mlp;budget=kv=10%", "deepest;budget=layers=4",
             "random/site;steps=2;budget=sites=3", "leave-one-out/attention;budget=layers=1",
             "deepest;budget=bytes=1kB"],
)  # fmt: skip
def test_a_budget_that_cannot_be_met_is_one_line(make: Make, text: str) -> None:
    with pytest.raises(PlanError, match="cannot be met") as error:
        make(text)
    assert "\n" not in str(error.value)
