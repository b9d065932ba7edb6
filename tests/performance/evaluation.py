"""Tasks and probes: beside the harness's own model for transformers, and masks of a plan beside one by one."""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from explorer.benchmarks.evaluate import QUESTIONS, evaluate
from explorer.benchmarks.harness import HarnessModel
from explorer.benchmarks.tasks import ask_tasks, load_tasks
from explorer.checkpoints.resolve import DEFAULT_MODEL
from explorer.checkpoints.spec import ModelSpec
from explorer.masks.mask import NONE, Mask
from explorer.model.loading import LoadedModel, load, quieten_libraries
from explorer.storage.store import Store
from tests.performance.engine import CACHE, Row, seconds

ITEMS = 100
_MASKS = 10

#: Items of the shapes that the benchmarks of these names have: tokens of a context and of a choice, and how many.
_SHAPES = {"arc_easy": (30, 5, 4), "hellaswag": (40, 25, 4), "winogrande": (20, 8, 2), "piqa": (18, 20, 2)}
_GOALS = {"arc_easy": "0.5", "hellaswag": "0.5", "winogrande": "0.75", "piqa": "0.75"}


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    quieten_libraries()
    loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
    corpus = loaded.tokenize("python-docs", 8192, 256)
    words = re.findall(r"[a-z]{2,}", " ".join(loaded.tokenizer.decode(row) for row in corpus.held_out.ids))
    with tempfile.TemporaryDirectory() as folder:
        for name in _SHAPES:
            _write_task(Path(folder), name, words)
        tasks = {name: load_tasks([name], Path(folder)) for name in _SHAPES}
        for name, task in tasks.items():
            yield from _against_harness(loaded, name, task)
        yield from _along_a_plan(loaded, tasks["arc_easy"])
    took = seconds(lambda: evaluate(loaded, corpus, [], Store(None)), 1)
    yield f"all probes, {QUESTIONS} questions each", f"{took:.1f} s", "30 s"


def _write_task(folder: Path, name: str, words: Sequence[str]) -> None:
    """Write a task whose items are runs of a text's words; contexts differ in the middle where the benchmark's do."""
    draw = random.Random(name)
    before, after, count = _SHAPES[name]

    def take(length: int) -> str:
        start = draw.randrange(len(words) - length)
        return " ".join(words[start : start + length])

    rows = []
    for _ in range(ITEMS):
        if name == "winogrande":
            start, middle = take(before // 2), take(before // 2)
            choices = [f"{start} {draw.choice(words)} {middle}" for _ in range(count)]
        else:
            start, choices = take(before), [take(draw.randint(after // 2 + 1, 3 * after // 2)) for _ in range(count)]
        rows.append({"start": start, "choices": choices, "rest": take(after), "gold": draw.randrange(count)})
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = (
        "doc_to_text: gold\ndoc_to_target: rest\n"
        if name == "winogrande"
        else "doc_to_text: start\ndoc_to_target: gold\n"
    )
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder / name}.jsonl}}}}\n"
        f"test_split: test\noutput_type: multiple_choice\n{asked}doc_to_choice: choices\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )


def _ask(loaded: LoadedModel, task: dict[str, Any], variants: Sequence[Mask]) -> dict[str, list[dict[str, Any]]]:
    with HarnessModel(loaded, [NONE, *variants], Store(None)) as model:
        model.answer_as(NONE)
        return ask_tasks(model, task, ITEMS, False)


@torch.inference_mode()
def _against_harness(loaded: LoadedModel, name: str, task: dict[str, Any]) -> Iterator[Row]:
    from lm_eval.models.huggingface import HFLM

    oracle = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=1)
    times: list[tuple[float, float]] = []
    for _ in range(2):  # in turns, for the machine drifts
        ours = seconds(lambda: _ask(loaded, task, []), 1)
        times.append((ours, seconds(lambda: ask_tasks(oracle, task, ITEMS, False), 1)))
    ratio = sum(ours for ours, _ in times) / sum(theirs for _, theirs in times)
    what = f"{ITEMS} items shaped as {name}'s / the same by lm-evaluation-harness's own model, one request at a time"
    yield what, f"{ratio:.2f}", _GOALS[name]


def _along_a_plan(loaded: LoadedModel, task: dict[str, Any]) -> Iterator[Row]:
    """Masks of a plan from the last layers to the middle, together and each in a run of its own."""
    last = loaded.n_layers - 2
    masks = [Mask.of_layers(range(last - step, last + 1)) for step in range(_MASKS)]
    start = time.perf_counter()
    for mask in masks:
        _ask(loaded, task, [mask])
    alone = time.perf_counter() - start
    together = seconds(lambda: _ask(loaded, task, masks), 1)
    yield f"{_MASKS} masks of one plan together / one by one, {ITEMS} items", f"{together / alone:.2f}", "0.6"
