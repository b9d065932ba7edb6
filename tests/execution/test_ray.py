"""Workers by Ray, a real cluster of two: the same numbers to the last bit, whoever is lost on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import combinations
from multiprocessing.connection import Connection
from pathlib import Path
from shutil import copytree, move
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch

from explorer.benchmarks.evaluate import Asking, evaluate
from explorer.benchmarks.likelihoods import find_likelihoods
from explorer.benchmarks.request import Item, RequestEncoder
from explorer.errors import Cancelled, MissingExtra
from explorer.evaluation.divergence import measure_divergence
from explorer.evaluation.perplexity import score
from explorer.execution import ray_executor
from explorer.execution.executor_spec import ExecutorError, ExecutorSpec
from explorer.execution.executors import spreading
from explorer.execution.ray_cluster import Cluster
from explorer.masks.mask import NONE
from explorer.masks.units import find_units
from explorer.measures.built_in_criteria import make_loss_function
from explorer.measures.interactions import interact
from explorer.model.loading import LoadedModel
from explorer.plans.choices import compare_choices
from explorer.plans.curve import trace_curve
from explorer.plans.make import make_plan
from explorer.plans.plan import PlanSpec
from explorer.storage.exchange import list_rows
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.support.processes import child
from tests.support.tiny_models import REPOSITORY, WINDOW, load_folder

WORKERS = 2
#: How many of ten moments are tried; `make test-kills` has all of them.
KILLS = int(os.environ.get("KILLS", "2"))
UNITS = find_units(4, "site")
MASKS = [a | b for a, b in combinations(UNITS, 2)]  # 28


@pytest.fixture(scope="module")
def folder(small: Path) -> Path:
    return small


@pytest.fixture(scope="module")
def here(folder: Path) -> LoadedModel:
    """The model in this process, which nobody helps."""
    return _load(folder)


@pytest.fixture(scope="module")
def corpus(here: LoadedModel) -> Corpus:
    return here.tokenize("python-docs", 9 * WINDOW, WINDOW)


def _load(folder: Path, **options: Any) -> LoadedModel:
    loaded = load_folder(folder, **options)
    loaded.batch_shape.tokens = 4 * WINDOW
    return loaded


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        made = Cluster(ExecutorSpec(workers=WORKERS + 1), 1)
        yield
        made.close()


@pytest.fixture(scope="module")
def helped(folder: Path, cluster: None) -> Iterator[LoadedModel]:
    """The model with two workers, to whom even short work is given."""
    loaded = _load(folder)
    with pytest.MonkeyPatch.context() as patch, spreading(loaded, f"ray;workers={WORKERS}", folder / "cache"):
        patch.setattr(ray_executor, "_LEAST_SECONDS", 0.0)
        yield loaded


def _rows(store: Store) -> dict[str, list[tuple]]:
    return {table: sorted(rows, key=str) for table, rows in list_rows(store).items()}


def _same(ask: Callable[[LoadedModel, Store], Any], here: LoadedModel, helped: LoadedModel) -> tuple[Any, Any]:
    """Ask both; see that the workers ran layers, and that what is stored is the same to the last bit."""
    stores = Store(None), Store(None)
    alone = ask(here, stores[0])
    number = helped.executor._number
    together = ask(helped, stores[1])
    assert helped.executor._number > number + 1
    assert _rows(stores[0]) == _rows(stores[1])
    return alone, together


def test_scores_are_the_same(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    told: list[tuple[int, int]] = []

    def ask(loaded: LoadedModel, store: Store) -> Any:
        return score(loaded, corpus, MASKS, store, progress=lambda done, total, what: told.append((done, total)))

    alone, together = _same(ask, here, helped)
    assert [each.nll.tolist() for each in alone] == [each.nll.tolist() for each in together]
    assert told[-1] == (29 * 9, 29 * 9)


def test_divergences_are_the_same(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    for split, baseline in (("held-out", NONE), ("calibration", UNITS[3])):
        variants = [baseline | mask for mask in UNITS]
        _same(lambda loaded, store: measure_divergence(
            loaded, corpus, variants, store, split, baseline=baseline), here, helped)  # noqa: B023  # fmt: skip


@pytest.mark.parametrize("criterion", ["kl", "last-token-cosine"])
def test_criteria_are_the_same(here: LoadedModel, helped: LoadedModel, corpus: Corpus, criterion: str) -> None:
    def ask(loaded: LoadedModel, store: Store) -> Any:
        return make_loss_function(loaded, corpus, store, criterion)(MASKS, slice(1, 9))

    alone, together = _same(ask, here, helped)
    assert (alone == together).all()


def _make_items(loaded: LoadedModel) -> list[Item]:
    """Twelve contexts of three lengths, each with three choices of other lengths."""
    encoder = RequestEncoder.of(loaded)
    places = ("the hall", "a garden that nobody knew", "the street behind the old house by the river")
    choices = (" ran.", " slept all day long.", " sang")
    pairs = [(f"{n} cats in {place}", choices) for n in range(4) for place in places]
    return [tuple(encoder.pair(context, choice) for choice in own) for context, own in pairs]


def test_likelihoods_are_the_same(here: LoadedModel, helped: LoadedModel) -> None:
    """Whichever items are in a worker's batch beside an item, and whichever variants it runs with."""

    def ask(loaded: LoadedModel, store: Store) -> Any:
        return find_likelihoods(loaded, _make_items(loaded), [NONE, *UNITS], store)

    alone, together = _same(ask, here, helped)
    assert alone == together


def test_evaluations_are_the_same(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    def ask(loaded: LoadedModel, store: Store) -> Any:
        return evaluate(loaded, corpus, UNITS, store, ["probe:copying", "probe:brackets"], Asking(limit=6))

    alone, together = _same(ask, here, helped)
    assert [each.answers for each in alone] == [each.answers for each in together]


def test_choices_of_texts_and_objectives_are_the_same(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    def ask(loaded: LoadedModel, store: Store) -> Any:
        corpora = [corpus, loaded.tokenize("python-docs", 5 * WINDOW, WINDOW)]
        return compare_choices(loaded, corpora, ["perplexity", "probe:copying"], 2, store, "site")

    alone, together = _same(ask, here, helped)
    assert alone.cells == together.cells


def test_methods_and_seeds_are_the_same(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    """What `make findings` and `compare` do: a plan and its curve, for every method and seed."""
    texts = ["random/site;seed=1", "random/site;seed=2", "leave-one-out/site;iterative=yes"]

    def ask(loaded: LoadedModel, store: Store) -> Any:
        plans = [make_plan(loaded, corpus, PlanSpec.parse(f"{text};steps=3"), store) for text in texts]
        return [trace_curve(loaded, corpus, plan, store, divergence=True).plan.masks for plan in plans]

    alone, together = _same(ask, here, helped)
    assert alone == together


@pytest.mark.parametrize("text", ["greedy/site;steps=3", "beam/site;width=2;steps=2;criterion=kl"])
def test_plans_are_the_same(here: LoadedModel, helped: LoadedModel, corpus: Corpus, text: str) -> None:
    def ask(loaded: LoadedModel, store: Store) -> Any:
        return make_plan(loaded, corpus, PlanSpec.parse(text), store)

    alone, together = _same(ask, here, helped)
    assert alone.masks == together.masks
    assert together.effort.layer_evaluations >= alone.effort.layer_evaluations / 2  # those that workers ran are counted


def test_interactions_are_the_same(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    def ask(loaded: LoadedModel, store: Store) -> Any:
        return interact(UNITS, make_loss_function(loaded, corpus, store), 9, WINDOW - 1)

    alone, together = _same(ask, here, helped)
    assert np.array_equal(alone.pairs, together.pairs, equal_nan=True)


def test_what_is_known_is_not_sent(helped: LoadedModel, corpus: Corpus) -> None:
    store = Store(None)
    score(helped, corpus, MASKS, store)
    number = helped.executor._number
    score(helped, corpus, MASKS[:5], store)
    assert helped.executor._number == number


def test_a_killed_worker_costs_its_slice(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    before = list(helped.executor.workers)
    pids = ray.get([worker.__ray_call__.remote(lambda self: os.getpid()) for worker in before])

    def ask(loaded: LoadedModel, store: Store) -> Any:
        def progress(done: int, total: int, what: str) -> None:
            if loaded is helped and pids and done:
                os.kill(pids.pop(), signal.SIGKILL)

        return make_plan(loaded, corpus, PlanSpec.parse("greedy/site;steps=3"), store, progress)

    def score_killing(loaded: LoadedModel, store: Store) -> Any:
        def progress(done: int, total: int, what: str) -> None:
            if loaded is helped and len(pids) == WORKERS and done:
                os.kill(pids.pop(), signal.SIGKILL)

        return score(loaded, corpus, MASKS, store, "calibration", progress)

    alone, together = _same(score_killing, here, helped)
    assert [each.nll.tolist() for each in alone] == [each.nll.tolist() for each in together]
    alone, together = _same(ask, here, helped)
    assert alone.masks == together.masks
    assert pids == []
    assert len(helped.executor.workers) > len(before)


def test_a_worker_that_dies_while_it_loads_is_replaced(
    here: LoadedModel, folder: Path, cluster: None, tmp_path: Path, corpus: Corpus
) -> None:
    loaded, killed = _load(folder), set[int]()
    others = _find(os.getsid(0), "ray::Worker").keys()

    def progress(done: int, total: int, what: str) -> None:
        for pid in () if killed else _find(os.getsid(0), "ray::Worker").keys() - others:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)

    with spreading(loaded, "ray;workers=1", tmp_path):
        found = score(loaded, corpus, MASKS, Store(None), progress=progress)
        assert len(loaded.executor.workers) == 2
    assert killed
    assert [each.nll.tolist() for each in found] == [
        each.nll.tolist() for each in score(here, corpus, MASKS, Store(None))
    ]


def test_workers_that_all_die_while_they_load_are_one_line(
    folder: Path, cluster: None, tmp_path: Path, corpus: Corpus
) -> None:
    loaded = _load(folder)

    def progress(done: int, total: int, what: str) -> None:
        for worker, _ in loaded.executor._loading.values():
            ray.kill(worker)

    with (
        spreading(loaded, "ray;workers=1", tmp_path),
        pytest.raises(ExecutorError, match=r"^No worker is left: .*See that each machine"),
    ):
        score(loaded, corpus, MASKS, Store(None), progress=progress)


def test_a_slice_may_not_cost_every_worker(
    helped: LoadedModel, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "_TRIES", 1)
    killed: list[Any] = []

    def progress(done: int, total: int, what: str) -> None:
        if done and not killed:
            killed.extend(helped.executor.workers)
            for worker in killed:
                ray.kill(worker)

    with pytest.raises(ExecutorError, match=r"^1 workers were lost on one slice: .*each machine has the model"):
        score(helped, corpus, MASKS, Store(None), progress=progress)
    assert killed


def test_what_is_cancelled_stops_and_goes_on(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    whole, part = Store(None), Store(None)
    score(here, corpus, MASKS, whole)

    def progress(done: int, total: int, what: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        score(helped, corpus, MASKS, part, progress=progress)
    known = set(_rows(part)["nll"])
    assert 0 < len(known) < len(_rows(whole)["nll"])
    assert known <= set(_rows(whole)["nll"])
    score(helped, corpus, MASKS, part)
    assert _rows(part) == _rows(whole)


def test_a_worker_out_of_memory_halves_the_batch(here: LoadedModel, helped: LoadedModel, corpus: Corpus) -> None:
    def fill_memory(worker: Any) -> None:
        inner = worker.loaded.wrappers.layer_inputs

        def layer_inputs(ids: Any, **given: Any) -> Any:
            if len(ids) == 4:
                raise torch.OutOfMemoryError
            return inner(ids, **given)

        worker.loaded.wrappers.layer_inputs = layer_inputs

    for _ in range(100):  # all workers are there: one that comes later has memory
        score(helped, corpus, MASKS, Store(None))
        if not helped.executor._loading:
            break
    workers = list(helped.executor._idle)
    ray.get([worker.__ray_call__.remote(fill_memory) for worker in workers])
    here.batch_shape.tokens = 2 * WINDOW
    try:
        _same(lambda loaded, store: score(loaded, corpus, MASKS, store), here, helped)
    finally:
        here.batch_shape.tokens = 4 * WINDOW
        ray.get(
            [
                worker.__ray_call__.remote(lambda self: delattr(self.loaded.wrappers, "layer_inputs"))
                for worker in workers
            ]
        )


def test_a_worker_uses_as_many_threads(helped: LoadedModel) -> None:
    counts = [worker.__ray_call__.remote(lambda self: torch.get_num_threads()) for worker in helped.executor._idle]
    assert set(ray.get(counts)) == {torch.get_num_threads()}


def test_workers_that_cannot_load_are_one_line(folder: Path, cluster: None, tmp_path: Path, corpus: Corpus) -> None:
    loaded = _load(copytree(folder, tmp_path / "gone"))
    with spreading(loaded, "ray;workers=1", tmp_path):
        move(tmp_path / "gone", tmp_path / "elsewhere")
        with pytest.raises(ExecutorError, match=r"^No worker is left: .*gone.*See that each machine"):
            score(loaded, corpus, MASKS, Store(None))


def test_a_worker_with_other_weights_is_refused(folder: Path, cluster: None, tmp_path: Path, corpus: Corpus) -> None:
    loaded = _load(folder)
    loaded.digest = "of other files"
    with (
        spreading(loaded, "ray;workers=1", tmp_path),
        pytest.raises(ExecutorError, match=r"^No worker is left: a worker's files, processor or versions"),
    ):
        score(loaded, corpus, MASKS, Store(None))


def test_a_streamed_model_is_whole_in_its_workers(
    here: LoadedModel, folder: Path, cluster: None, tmp_path: Path, corpus: Corpus
) -> None:
    streamed = _load(folder, stream=True)
    with spreading(streamed, "ray;workers=1", tmp_path), streamed.wrappers.counting() as count:
        _same(lambda loaded, store: score(loaded, corpus, MASKS, store), here, streamed)
        assert count.evaluations > 0


@pytest.mark.parametrize("text", ["rays", "ray;cores=2", "ray;workers=0", "ray:10001", "spark", ""])
def test_what_is_no_executor_is_one_line(text: str) -> None:
    with pytest.raises(ExecutorError, match=r"^Unknown executor: "):
        ExecutorSpec.parse(text)


def test_executors_are_read() -> None:
    assert ExecutorSpec.parse("local") is None
    assert ExecutorSpec.parse("ray") == ExecutorSpec()
    assert ExecutorSpec.parse("ray://head:10001;workers=8;gpus=2") == ExecutorSpec("ray://head:10001", 8, 2)


def test_without_ray_one_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"ray is not installed: .* pip install 'layer-redundancy-explorer\[ray\]'"):
        ExecutorSpec.parse("ray")


def test_a_cluster_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("nobody answers\nat that address")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ExecutorError, match=r"^Cannot reach the cluster: ray://head:1 "):
        Cluster(ExecutorSpec("ray://head:1"), 1)


def test_the_command_line_is_quiet_and_leaves_nothing(
    here: LoadedModel, folder: Path, tmp_path: Path, corpus: Corpus
) -> None:
    """score by two workers, one of which is killed; then again, interrupted while they start."""
    masks = [f"--mask={mask}" for mask in MASKS]
    size = [f"--window={WINDOW}", f"--tokens={9 * WINDOW}", "--dtype=float32", "--device=cpu", "--json"]
    where = [f"--model={folder}", f"--cache={tmp_path}", "--no-cache", f"--executor=ray;workers={WORKERS}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "explorer", "score", *where, *size, *masks], cwd=REPOSITORY, env=environment,
            text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    asked = start()
    os.kill(_wait_for_process(asked.pid, "ray::Worker"), signal.SIGKILL)
    answer, errors = asked.communicate()
    assert errors == ""
    here.batch_shape.tokens = 512  # as it is in the other process
    alone = score(here, corpus, MASKS, Store(None))
    here.batch_shape.tokens = 4 * WINDOW
    assert [each["window_nll"] for each in json.loads(answer)["scores"][1:]] == [each.nll.tolist() for each in alone]
    assert _left(asked.pid) == []
    stopped = start()
    _wait_for_process(stopped.pid, str(Path(ray.__file__).parent / "core"))  # the first of a cluster
    os.killpg(stopped.pid, signal.SIGINT)
    assert stopped.communicate() == ("", "interrupted; nothing is kept\n")
    assert stopped.returncode == 130
    assert _left(stopped.pid) == []


def _drive(pipe: Connection, task: Any) -> None:
    """Score by a worker, and tell how far it is."""
    torch.set_num_threads(1)
    os.environ["RAY_ADDRESS"] = task.address
    ray_executor._LEAST_SECONDS = 0.0
    loaded, store = _load(task.folder), Store(task.cache)
    with spreading(loaded, "ray;workers=1", task.cache):
        score(loaded, task.corpus, MASKS, store, progress=lambda done, total, what: pipe.send(done / total))
    pipe.send(2.0)


def _wait_until(pipe: Connection, done: float) -> None:
    while pipe.poll(60) and pipe.recv() < done:
        pass


def test_a_driver_killed_at_any_moment_goes_on(
    here: LoadedModel, folder: Path, cluster: None, tmp_path: Path, corpus: Corpus
) -> None:
    """At a share of the work, or while the worker is on its way; nothing is stored that an undisturbed run has not."""
    undisturbed, draw = Store(None), random.Random(1)
    score(here, corpus, MASKS, undisturbed)
    address = ray.get_runtime_context().gcs_address
    task = SimpleNamespace(folder=folder, cache=tmp_path / "cache", corpus=corpus, address=address)
    for _ in range(KILLS):
        moment, late = draw.uniform(-0.5, 1), draw.uniform(0, 0.05)
        with child(_drive, task) as (process, pipe):
            _wait_until(pipe, max(moment, 0))
            time.sleep(late - 4 * min(moment, 0))
            process.kill()
            process.join()
        with closing(Store(task.cache)) as store:
            assert set(_rows(store)["nll"]) <= set(_rows(undisturbed)["nll"])
    with child(_drive, task) as (_, pipe):
        _wait_until(pipe, 2.0)
    with closing(Store(task.cache)) as store:
        assert _rows(store) == _rows(undisturbed)


def test_a_worker_killed_at_any_moment_changes_no_number(
    here: LoadedModel, helped: LoadedModel, corpus: Corpus
) -> None:
    draw = random.Random(3)
    undisturbed = Store(None)
    score(here, corpus, MASKS, undisturbed)
    for _ in range(KILLS):
        moment, killed, store = draw.random(), list[int](), Store(None)

        def progress(done: int, total: int, what: str) -> None:
            if done >= moment * total and not killed:  # noqa: B023
                time.sleep(draw.uniform(0, 0.02))
                killed.append(draw.choice(sorted(_find(os.getsid(0), "ray::Worker"))))  # noqa: B023
                os.kill(killed[0], signal.SIGKILL)  # noqa: B023

        score(helped, corpus, MASKS, store, progress=progress)
        assert killed
        assert _rows(store) == _rows(undisturbed)


def test_workers_end_when_the_command_is_killed(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "explorer", "score", f"--model={folder}", f"--cache={tmp_path}", "--mask=1"]
    more = [f"--window={WINDOW}", f"--tokens={9 * WINDOW}", f"--executor=ray;workers={WORKERS}", "--device=cpu"]
    driver = subprocess.Popen(
        [*command, *(f"--mask={mask}" for mask in MASKS), *more], cwd=REPOSITORY, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _wait_for_process(driver.pid, "ray::Worker")
    driver.kill()
    driver.wait()
    assert _left(driver.pid) == []


def _find(session: int, begins: str = "") -> dict[int, str]:
    """Processes of a session and those begun by them, with their command lines."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = status.read_text().rpartition(")")[2].split()
            words = (status.parent / "cmdline").read_text().replace("\0", " ")
            if int(fields[3]) == session and fields[0] != "Z" and words.startswith(begins):
                found[int(status.parent.name)] = words
    return found


def _wait_for(condition: Callable[[], Any]) -> Any:
    for _ in range(600):
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError


def _wait_for_process(session: int, begins: str) -> int:
    return next(iter(_wait_for(lambda: _find(session, begins))))


def _left(session: int) -> list[str]:
    """Command lines of processes of a session that stay."""
    with suppress(TimeoutError):
        _wait_for(lambda: not _find(session))
    return list(_find(session).values())
