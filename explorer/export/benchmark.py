"""What was written, and the whole model -> how fast each reads and decodes, reloaded in the programs at hand."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from explorer.errors import ExportError
from explorer.evaluation import TokenRate, write_exactly
from explorer.export.changes import Changes
from explorer.export.export_plan import ExportPlan
from explorer.export.formats import FORMATS
from explorer.export.timings import Benchmark, Timing
from explorer.export.verify import reload_checkpoint
from explorer.masks import NONE
from explorer.model import LoadedModel, refusing_failures
from explorer.progress import Progress, unreported
from explorer.stopwatch import timing

#: Texts at once, and tokens before what is decoded; those that a model has no positions for are left out.
BATCHES, CONTEXTS = (1, 4), (64, 512)

TOKENS = 12  # decoded in a run
RUNS = 6  # of each: the least and the largest of six hold the median with 97% (1 - 2 / 2^6)
_ROUNDS = 2 * RUNS  # tried at the most, where other work comes in between

#: Seconds of reading a context, and of one more token, of the whole model and of what was written.
Seconds = tuple[float, float]


def check_benchmark(loaded: LoadedModel, planned: ExportPlan) -> None:
    """Raise ExportError if there is nothing to time."""
    if planned.reload is None:
        raise ExportError("There is nothing to time", f"{planned.format.name} has no weights", "Leave --benchmark out")
    if _is_gguf(planned):
        from explorer.export.gguf import is_installed

        if not is_installed():
            found = "llama-cpp-python is not installed"
            raise ExportError(
                "There is nothing to time a GGUF file with", found, "Install it, or leave --benchmark out"
            )
    if loaded.spec.stream:
        raise ExportError(
            "A streamed model is not timed", "its weights are read once a token", "Load it without --stream"
        )


def _is_gguf(planned: ExportPlan) -> bool:
    return (planned.format.written_in or planned.format.kind).startswith("gguf")


def run_benchmark(loaded: LoadedModel, planned: ExportPlan, folder: Path, progress: Progress = unreported) -> Benchmark:
    """Reload the whole model and what was written in the programs at hand, and time both in turns.

    A GGUF file is timed by llama.cpp, where it is installed; everything else by transformers. A round into which other
    work was let is not counted; a pair of batch and context with too few that were undisturbed is left out.

    Args:
        loaded: the model.
        planned: how it was written.
        folder: where.
        progress: told the rounds.

    Raises:
        UnsupportedModel: the model does not write in transformers.
        DeviceError: both do not fit the device.
        Cancelled: `progress` raised it.
    """
    grid = [(batch, context) for context in CONTEXTS for batch in BATCHES]
    grid = [each for each in grid if each[1] + TOKENS <= (loaded.positions or 2**31)] or [(1, 8)]
    if _is_gguf(planned):
        found = _time_in_llama_cpp(loaded, planned, folder, list(dict.fromkeys(context for _, context in grid)))
    else:
        found = _time_in_transformers(loaded, planned, folder, grid, progress)
    return Benchmark(describe_machine(loaded), tuple(found))


def _time_in_llama_cpp(loaded: LoadedModel, planned: ExportPlan, folder: Path, contexts: list[int]) -> list[Timing]:
    """Time one text at a time, beside the whole model written in the same type of blocks."""
    from explorer.export.gguf import FILE, measure_seconds, plan_gguf

    with tempfile.TemporaryDirectory(prefix=".whole-", dir=folder.parent) as scratch:
        whole = plan_gguf(loaded, NONE, Changes(), FORMATS[planned.format.written_in or planned.format.name])
        whole.write(Path(scratch), lambda size: None)
        paths = [Path(scratch) / FILE, folder / FILE]
        found = measure_seconds(paths, contexts, TOKENS, RUNS + 1, torch.get_num_threads()) or []
    rounds = [[[(read, step) for read, step in files] for files in runs[1:]] for runs in found]
    return [_describe("llama.cpp", 1, context, each) for context, each in zip(contexts, rounds, strict=False)]


def _time_in_transformers(
    loaded: LoadedModel, planned: ExportPlan, folder: Path, grid: list[tuple[int, int]], progress: Progress
) -> list[Timing]:
    assert planned.reload is not None
    models = [reload_checkpoint(loaded, loaded.checkpoint.folder), planned.reload(loaded, folder)]
    found, name = [], f"transformers {transformers.__version__}"
    for number, (batch, context) in enumerate(grid):
        ids = torch.randint(loaded.vocabulary, (batch, context), generator=torch.Generator().manual_seed(0))
        tell = partial(progress, number, len(grid), "Timing")
        if rounds := _take_rounds(models, ids.to(loaded.device), tell):
            found.append(_describe(name, batch, context, rounds))
    return found


def _take_rounds(
    models: list[Any], ids: Int64[Tensor, "batch positions"], tell: Callable[[], None]
) -> list[list[Seconds]]:
    """Return undisturbed rounds after the first, which is slower; none if there are too few."""
    rounds: list[list[Seconds]] = []
    for number in range(-1, _ROUNDS):
        tell()
        with timing() as watch:
            found = [_time(model, ids) for model in models]
        if number >= 0 and not watch.stood:
            rounds.append(found)
        if len(rounds) == RUNS:
            return rounds
    return []


class _Steps(LogitsProcessor):
    """Notes when each step's logits are there."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(
        self, input_ids: Int64[Tensor, "batch positions"], scores: Float[Tensor, "batch vocabulary"]
    ) -> Float[Tensor, "batch vocabulary"]:
        scores[0, 0].item()  # an accelerator has finished when it can be read
        self.times.append(time.perf_counter())
        return scores


@torch.inference_mode()
def _time(model: Any, ids: Int64[Tensor, "batch positions"]) -> Seconds:
    """Return seconds until the first token after a context, and from there to the next on the average."""
    config = write_exactly(TOKENS)
    steps = _Steps()
    start = time.perf_counter()
    with refusing_failures(model, "The model does not write", "Leave --benchmark out"):
        model.generate(
            ids,
            generation_config=config,
            attention_mask=torch.ones_like(ids),
            logits_processor=LogitsProcessorList([steps]),
        )
    return steps.times[0] - start, (steps.times[-1] - steps.times[0]) / (len(steps.times) - 1)


def _describe(runtime: str, batch: int, context: int, rounds: Sequence[Sequence[Seconds]]) -> Timing:
    whole, written = (
        (
            TokenRate.of([batch * context / prefill for prefill, _ in each]),
            TokenRate.of([batch / step for _, step in each]),
        )
        for each in zip(*rounds, strict=True)
    )
    return Timing(runtime, batch, context, (whole[0], written[0]), (whole[1], written[1]))


def describe_machine(loaded: LoadedModel) -> str:
    """Say what a model runs on: the device, threads, and torch's version."""
    if loaded.device.type == "cuda":
        device = torch.cuda.get_device_name(loaded.device)
    else:
        device = f"{_name_processor()}, {os.cpu_count()} processors, {torch.get_num_threads()} threads"
    return f"{device}, {loaded.precision}, torch {torch.__version__}"


def _name_processor() -> str:
    """Name of the processor, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
