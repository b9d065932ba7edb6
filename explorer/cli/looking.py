"""prepare, info, corpus: what there is, before anything is measured."""

from __future__ import annotations

from typing import Any

from explorer.checkpoints import find_checkpoint
from explorer.cli.verb import describe_corpus, verb
from explorer.cli.work import Work
from explorer.masks import NONE


@verb
def prepare(work: Work) -> tuple[dict[str, Any], str]:
    """Convert or download the model into the cache, without loading it."""
    s = work.settings
    found = find_checkpoint(s.model, work.store, s.cache, trust_remote_code=s.trust_remote_code, progress=work.progress)
    return {"model": s.model, "folder": str(found.folder)}, f"{s.model} is ready in {found.folder}"


@verb
def info(work: Work) -> tuple[dict[str, Any], str]:
    """Describe the model: size, precision, KV cache, and its sites."""
    from explorer.costs import take_inventory

    loaded = work.loaded
    inventory = take_inventory(loaded.model, loaded.family)
    costs = inventory.costs(NONE, work.settings.window)
    answer: dict[str, Any] = {
        "model": loaded.spec.model,
        "architecture": type(loaded.model).__name__,
        "layers": loaded.n_layers,
        "parameters": costs.parameters,
        "bytes": costs.bytes,
        "dtype": loaded.dtype,
        "quantize": loaded.spec.quantize,
        "device": str(loaded.device),
        "kv_bytes_per_token": costs.kv_bytes_per_token,
        "flops_per_token": costs.flops_per_token,
        "digest": loaded.digest,
        "sites": inventory.sites(),
    }
    rows = [(name.replace("_", " "), f"{answer[name]:,}" if isinstance(answer[name], int) else answer[name])
            for name in answer if name != "sites"]  # fmt: skip
    return answer, "\n".join(f"{name:<20}{value}" for name, value in rows)


@verb
def corpus(work: Work) -> tuple[dict[str, Any], str]:
    """Print the token ids of the calibration and the held-out windows."""
    made = work.corpus
    answer: dict[str, Any] = {
        **describe_corpus(made),
        "calibration": made.calibration.ids,
        "held_out": made.held_out.ids,
    }
    return answer, (
        f"{made.name}: {len(made.calibration)} calibration and {len(made.held_out)} held-out windows, "
        f"{made.protocol}\ndigest {made.digest} (--json prints the ids)"
    )
