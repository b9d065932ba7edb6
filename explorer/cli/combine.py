"""combine: which layers to remove and which to put zeros into, so that the weights fit into bytes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from explorer.cli.verb import describe_corpus, describe_score, verb
from explorer.cli.work import Work
from explorer.deltas import ModifierSpec


@verb
def combine(
    work: Work,
    budget: Annotated[str, typer.Option(help="bytes=30% to save, or bytes=200MiB to fit in, zeros not counted.")],
    modify: Annotated[str, typer.Option(help="What puts zeros into a layer.")] = "sparsegpt;pattern=2:4",
) -> tuple[dict[str, Any], str]:
    """Choose for each layer whether it stays, goes or gets zeros, by what each costs alone; then measure that."""
    from explorer.evaluation import score
    from explorer.plans import Budget, combine as combine_layers

    spec = ModifierSpec.parse(modify)
    found = combine_layers(work.loaded, work.corpus, Budget.parse(budget), spec, work.store, work.progress)
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
