"""Workers of a Ray cluster, each with a model of its own: they do slices, and what they find goes into the store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from explorer.checkpoints import ModelSpec
from explorer.errors import ExplorerError, first_line
from explorer.evaluation import Assignment, Filler, Missing
from explorer.execution.executor_spec import ExecutorError, ExecutorSpec
from explorer.execution.ray_cluster import Cluster
from explorer.execution.ray_worker import Answer, Order, Worker
from explorer.execution.slices import Cutter, Slice
from explorer.model import LoadedModel
from explorer.progress import tell_left
from explorer.storage import Rows, Store, absorb, list_rows

_PER_WORKER = 4  # slices, where they are not short: the last ones end about together, and one is lost cheaply
_LEAST_SECONDS = 0.1  # of a slice: to send it takes milliseconds
_TICK = 0.2  # seconds between two reports of progress, which may cancel
_TRIES = 3  # workers that a slice may cost, and the place of a worker while they load
_PATIENCE = 600.0  # seconds until there must be a worker


class RayExecutor:
    """Spreads work on one model over workers, which are started when they are first needed.

    Args:
        loaded: the model here.
        spec: which cluster, how many workers.
        cache: where each worker's machine keeps converted models.
    """

    def __init__(self, loaded: LoadedModel, spec: ExecutorSpec, cache: Path) -> None:
        self.loaded, self.spec, self.cache = loaded, spec, cache.resolve()
        self.workers: list[Any] = []
        self._idle: deque[Any] = deque()
        self._loading: dict[Any, tuple[Any, int]] = {}  # what comes when a worker is ready -> it, which try it is
        self._files: Rows = {}
        self._number = 0  # of the last slice
        self._failure = ""
        self._cluster: Cluster | None = None

    def fill(self, function: Filler[Any], assignment: Assignment[Any], missing: Missing, size: int) -> None:
        """Have workers do what is missing; leave it to the caller if it is no more than a slice.

        See `evaluation.Executor`. What a worker finds is stored at once; a slice whose worker is lost is given to
        another.

        Raises:
            ExecutorError: no worker is left, or a slice cost several.
            Cancelled: `progress` raised it; the workers stop.
        """
        cutter = Cutter(missing, size, self.loaded.n_layers)
        cost, here = cutter.cost, self.loaded.wrappers.stream is None
        if here and cost <= self.loaded.n_layers + 1:
            return
        self._start(assignment.store)
        order = Order(function, assignment.inputs, assignment.variants, size)
        each = self.loaded.pace.estimate(_find_kind(order), 1.0)
        least = _LEAST_SECONDS / each if each else 0.0
        slices = cutter.cut(max(cost / (_PER_WORKER * max(1, len(self._idle or self._loading))), least))
        if not here or len(slices) > 1:
            self._run(order, slices, assignment)

    def close(self) -> None:
        """End the workers, and the cluster where it was started for them."""
        if self.workers and ray.is_initialized():
            for worker in self.workers:
                with suppress(RayError, ConnectionError):
                    ray.kill(worker)
        if self._cluster is not None:
            self._cluster.close()

    def _run(self, order: Order, slices: Iterable[Slice], assignment: Assignment[Any]) -> None:
        """Hand out slices until all are done."""
        places = {variant: place for place, variant in enumerate(order.variants)}
        sent, waiting = ray.put(order), deque((part, 1) for part in slices)
        running: dict[Any, tuple[Any, Slice, int]] = {}
        done, total = 0, sum(part.pairs for part, _ in waiting)
        what = f"{len(places)} mask{'s' * (len(places) > 1)}, {len(self.workers)} workers"
        since = time.monotonic()
        try:
            while waiting or running:
                assignment.progress(done, total, what)
                parts = [part for part, _ in waiting] + [part for _, part, _ in running.values()]
                left = sum(part.cost for part in parts) / max(1, len(running))
                tell_left(self.loaded.pace.estimate(_find_kind(order), left))
                self._check_any(bool(running), since)
                ready, _ = ray.wait([*running, *self._loading], timeout=_TICK) if running or self._loading else ([], [])
                found: list[tuple[Slice, Answer]] = []
                for ref in ready:
                    if ref in self._loading:
                        self._admit(ref)
                        continue
                    worker, part, tries = running.pop(ref)
                    answer = self._receive(ref, worker)
                    if answer is not None:
                        found.append((part, answer))
                    elif tries == _TRIES:
                        raise ExecutorError(f"{_TRIES} workers were lost on one slice", self._failure, _REMEDY)
                    else:
                        waiting.append((part, tries + 1))
                while waiting and self._idle:  # before what was found is stored: nobody waits for that
                    worker, (part, tries) = self._idle.popleft(), waiting.popleft()
                    self._number += 1
                    chosen = [places[variant] for variant in part.variants]
                    running[worker.do.remote(sent, self._number, chosen, part.rows)] = worker, part, tries
                for part, answer in found:
                    absorb(assignment.store, answer.rows)
                    self._note(order, part, answer)
                    done += part.pairs
            assignment.progress(done, total, what)
        except BaseException:
            for worker, _, _ in running.values():
                worker.stop.options(concurrency_group="control").remote(self._number)
                self._idle.append(worker)
            raise

    def _note(self, order: Order, part: Slice, answer: Answer) -> None:
        """Note what a slice cost."""
        self.loaded.pace.note(_find_kind(order), part.cost, answer.seconds)
        self.loaded.wrappers.count_in(answer.evaluations)

    def _receive(self, ref: Any, worker: Any) -> Answer | None:
        """Return what a worker answered; None, with another in its place, if it is lost. Raises what it raised."""
        try:
            answer = ray.get(ref)
        except RayTaskError as error:
            self._idle.append(worker)
            raise error.cause from None
        except RayError as error:
            self._failure = first_line(error)
            self._drop(worker)
            self._add()
            return None
        self._idle.append(worker)
        return answer

    def _admit(self, ref: Any) -> None:
        """Take a worker whose model is loaded; drop one that failed, or whose numbers would be others.

        One that died, and did not fail, is replaced.
        """
        worker, tries = self._loading.pop(ref)
        try:
            if ray.get(ref) == self.loaded.numerics_key(1):
                self._idle.append(worker)
                return
            self._failure = "a worker's files, processor or versions of torch and transformers differ from those here"
        except RayTaskError as error:
            self._failure = str(error.cause) if isinstance(error.cause, ExplorerError) else first_line(error.cause)
        except RayError as error:
            self._failure = first_line(error)
            if tries < _TRIES:
                self._add(tries + 1)
        self._drop(worker)

    def _drop(self, worker: Any) -> None:
        with suppress(RayError):
            ray.kill(worker)

    def _check_any(self, running: bool, since: float) -> None:
        """Raise ExecutorError if there is no worker and none will come."""
        if running or self._idle:
            return
        if not self._loading:
            raise ExecutorError("No worker is left", self._failure, _REMEDY)
        if time.monotonic() - since > _PATIENCE:
            raise ExecutorError(
                "No worker came", f"none in {_PATIENCE:.0f} seconds", "See with 'ray status' what lacks"
            )

    def _start(self, store: Store) -> None:
        """Connect and have workers load the model, unless they have."""
        if self.workers:
            return
        if not ray.is_initialized():
            self._cluster = Cluster(self.spec, torch.get_num_threads())
        self._files = list_rows(store, ("files",))
        for _ in range(self.spec.workers or self._count_room()):
            self._add()

    def _add(self, tries: int = 1) -> None:
        """Have one more worker load the model.

        Args:
            tries: how many were tried in its place, this one included.
        """
        needs = self._needs
        remote: Any = ray.remote  # its types do not know groups
        actor = remote(concurrency_groups={"control": 1})(Worker)
        worker = actor.options(num_cpus=needs["CPU"], num_gpus=needs["GPU"], memory=needs["memory"] or None).remote()
        self.workers.append(worker)
        ready = worker.load.remote(self._find_spec(), self.cache, self._files, torch.get_num_threads())
        self._loading[ready] = worker, tries

    @property
    def _needs(self) -> dict[str, int]:
        """What a worker takes of its machine."""
        parameters = list(self.loaded.model.parameters())
        gpus = len({each.device for each in parameters if each.is_cuda}) or int(self.loaded.device.type == "cuda")
        gpus = self.spec.gpus or gpus
        if gpus:
            return {"GPU": gpus, "CPU": 1, "memory": 0}
        return {"GPU": 0, "CPU": torch.get_num_threads(), "memory": sum(each.nbytes for each in parameters)}

    def _count_room(self) -> int:
        """Count the workers that fit on the machines. Raises ExecutorError if none does."""
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        needs = {name: amount for name, amount in self._needs.items() if amount}
        count = sum(min(int(each.get(name, 0) // amount) for name, amount in needs.items()) for each in machines)
        if not count:
            words = ", ".join(f"{amount} {name}" for name, amount in needs.items())
            raise ExecutorError("No machine of the cluster has room for a worker", words, "Use a smaller model")
        return count

    def _find_spec(self) -> ModelSpec:
        """Return what a worker loads: all of the model, also where it is streamed here."""
        spec, gpus = self.loaded.spec, self._needs["GPU"]
        several = spec.device if spec.device.startswith("map") else "map"
        device = several if gpus > 1 else "cuda" if gpus else "cpu"
        model = str(Path(spec.model).resolve()) if Path(spec.model).exists() else spec.model
        return replace(spec, model=model, dtype=self.loaded.dtype, device=device, stream=False)


def _find_kind(order: Order) -> tuple[str, int, int]:
    """Return what decides the seconds that a layer takes on a batch in a worker, with all that belongs to it."""
    function = getattr(order.function, "func", order.function)  # of a partial
    return f"slices of {function.__module__}", order.size, order.inputs.length


_REMEDY = "See that each machine has the model, the memory for it, and this program"
