"""combine: which layers to remove, put zeros into or round, so that the weights fit into bytes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from explorer.deltas import ModifierSpec
from explorer.verbs.describe import describe_corpus, describe_score
from explorer.verbs.work import Work


def combine(
    work: Work,
    budget: Annotated[str, typer.Option(help="bytes=30% to save, or bytes=200MiB to fit in, zeros not counted.")],
    modify: Annotated[str, typer.Option(help="What puts zeros into a layer.")] = "sparsegpt;pattern=2:4",
    bits: Annotated[
        list[int] | None, typer.Option(help="8 or 4, that a layer may be rounded to; again for both.")
    ] = None,
) -> tuple[dict[str, Any], str]:
    """Choose for each layer whether it stays, goes, gets zeros or fewer bits, by what each costs alone; measure it."""
    from explorer.evaluation import score
    from explorer.plans import Budget, combine as combine_layers

    spec = ModifierSpec.parse(modify)
    within = Budget.parse(budget)
    found = combine_layers(work.loaded, work.corpus, within, spec, work.store, work.progress, bits or ())
    (scored,) = score(work.loaded, work.corpus, [found.variant], work.store, progress=work.progress)
    answer = {
        "model": work.settings.model,
        "corpus": describe_corpus(work.corpus),
        "variant": str(found.variant),
        "bytes": found.bytes,
        "predicted": found.predicted,
        "measured": found.measured,
        "score": describe_score(scored),
    }
    return answer, (
        f"{found.variant}\n{found.bytes / 2**20:,.1f} MiB, were zeros not stored; on calibration windows "
        f"{found.predicted:+.4f} nats a token by the sum of single damages, {found.measured:+.4f} measured; "
        f"held-out perplexity {scored.perplexity:.4f}, whole {scored.unpruned.perplexity:.4f}"
    )
