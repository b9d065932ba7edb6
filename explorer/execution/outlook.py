"""What is asked of a model before it is loaded: whether its weights will fit into memory."""

from __future__ import annotations

from explorer.checkpoints import ModelSpec
from explorer.execution.engine import Engine
from explorer.execution.job import READOUT, Job
from explorer.execution.kinds import offered
from explorer.execution.request import Request
from explorer.execution.task import Task
from explorer.model import MemoryOutlook, estimate_memory


@offered("memory", loads=False)
def take_memory(task: Task, shown: str) -> MemoryOutlook:
    """Estimate what a model takes; what is in memory, as long as that is shown, counts as free."""
    resident = task.resident
    return estimate_memory(task.request.model, task.store, resident.cache, resident.held_bytes)


def ask_memory(engine: Engine, owner: str, spec: ModelSpec, shown: ModelSpec) -> Job:
    """Ask for a model's MemoryOutlook; nothing of it is loaded.

    Args:
        shown: what is shown now: what it holds is counted as free.
    """
    request = Request(kind=take_memory.name, model=spec, options={"shown": str(shown)})
    return engine.ask(owner, request, f"What {spec.model} takes", READOUT)
