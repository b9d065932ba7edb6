"""prepare, corpus: the model's files and the text's token ids, before anything is measured."""

from __future__ import annotations

from typing import Any

from explorer.checkpoints import resolve_checkpoint
from explorer.cli.verb import verb
from explorer.verbs import Work, describe_corpus


@verb
def prepare(work: Work) -> tuple[dict[str, Any], str]:
    """Convert or download the model into the cache, without loading it."""
    s = work.settings
    found = resolve_checkpoint(
        s.model, work.store, s.cache, trust_remote_code=s.trust_remote_code, progress=work.progress
    )
    return {"model": s.model, "folder": str(found.folder)}, f"{s.model} is ready in {found.folder}"


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
