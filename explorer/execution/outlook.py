"""What is asked of a model before it is loaded: whether its weights will fit into memory."""

from __future__ import annotations

from explorer.checkpoints import ModelSpec
from explorer.execution.engine import Engine
from explorer.execution.file_stamps import stamp
from explorer.execution.job import READOUT, Job
from explorer.execution.job_keys import make_job_key
from explorer.model import MemoryOutlook, estimate_memory


def ask_memory(engine: Engine, owner: str, spec: ModelSpec, shown: ModelSpec) -> Job:
    """Ask for a model's MemoryOutlook; nothing of it is loaded.

    Args:
        shown: what is shown now: what it holds is counted as free.
    """

    def work(job: Job) -> MemoryOutlook:
        return estimate_memory(spec, engine.store, engine.cache, engine.resident.held_bytes)

    files = tuple(map(stamp, (spec.model, shown.model)))
    key = make_job_key("memory", spec=str(spec), shown=str(shown), files=files)
    title = f"What {spec.model} takes"
    return engine.worker.ask(owner, "memory", key, title, work, READOUT, lambda: True)
