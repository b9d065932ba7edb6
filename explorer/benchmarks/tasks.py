"""Names -> tasks of lm-evaluation-harness, from its own files or a folder of the user's. Imports lm_eval."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from lm_eval.api import task as harness_task
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from tqdm import tqdm

from explorer.benchmarks.harness import HarnessModel
from explorer.errors import TaskError
from explorer.guarding import guarded
from explorer.reading import is_file

#: Of the harness: by these its few-shot examples are drawn.
_SEED, _FEWSHOT_SEED = 0, 1234


def load_tasks(names: Sequence[str], include: Path | None = None, num_fewshot: int | None = None) -> dict[str, Any]:
    """Load tasks, and those of groups and tags, as the harness does.

    Args:
        names: of tasks, groups or tags, or files of tasks.
        include: a folder with files of tasks.
        num_fewshot: solved items before each; as the task says, if None.

    Raises:
        TaskError: there is no such task, its file is wrong, or its items cannot be had.
    """
    _quieten()
    if include is not None and not include.is_dir():
        raise TaskError("No such folder of tasks", str(include), "Name the folder of your task files with --include")
    remedy = "Check its name, its file, and that its items can be read"
    with guarded(f"Cannot load {', '.join(names)}", remedy, TaskError):
        found = _find_manager(names, include).load(list(names))
    for task in found["tasks"].values():
        declared = task.get_config("num_fewshot")
        if declared != 0 and (num_fewshot is not None or declared is None):
            task.set_config(key="num_fewshot", value=num_fewshot or 0)
    return found


def _quieten() -> None:
    """Keep the harness and the readers of data sets from writing to stderr; progress is told in this program's way."""
    logging.getLogger("lm_eval").setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    harness_task.tqdm = partial(tqdm, disable=True)


def _find_manager(names: Sequence[str], include: Path | None) -> TaskManager:
    """Return what knows the names: of the user's folder alone where it has them all, for there are thousands else."""
    if include is not None:
        own = TaskManager(include_path=str(include), include_defaults=False)
        if all(name in own.task_index or is_file(name) for name in names):
            return own
    return TaskManager(include_path=None if include is None else str(include))


def ask_tasks(
    model: HarnessModel, tasks: dict[str, Any], limit: int | None, chat: bool
) -> dict[str, list[dict[str, Any]]]:
    """Return what the harness makes of each task's items, for the variant that answers now: its samples.

    Args:
        model: who answers.
        tasks: what `load_tasks` returned.
        limit: items of each task, the first ones; all if None.
        chat: put them in the model's chat template.

    Raises:
        TaskError: the task fails on an item.
    """
    random.seed(_SEED)
    np.random.seed(_FEWSHOT_SEED)
    for task in tasks["tasks"].values():
        task.set_fewshot_seed(seed=_FEWSHOT_SEED)
    with guarded("A task cannot be answered", "Check its file", TaskError):
        found = evaluate(
            model, tasks, limit=limit, bootstrap_iters=0, apply_chat_template=chat, fewshot_as_multiturn=chat
        )
    return found["samples"]
