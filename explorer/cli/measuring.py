"""measure: where the residual stream hardly changes."""

from __future__ import annotations

from typing import Any

from explorer.cli.verb import describe_corpus, verb
from explorer.cli.work import Work


@verb
def measure(work: Work) -> tuple[dict[str, Any], str]:
    """Measure similarity along the residual stream, on the calibration windows."""
    from explorer.similarity import TOKEN_CHOICES, UNITS
    from explorer.similarity import measure as measure_similarity

    found = measure_similarity(work.loaded, work.corpus, work.store, work.progress)
    answer: dict[str, Any] = {
        "model": found.model,
        "dtype": found.dtype,
        "corpus": describe_corpus(work.corpus),
        "tokens": found.tokens,
        "angular_distance": {choice: found.angular_distance(choice) for choice in TOKEN_CHOICES},
        "block_influence": {unit: found.block_influence(unit) for unit in UNITS},
        "block_influence_without_first": {unit: found.block_influence(unit, True) for unit in UNITS},
        "residual_norm": {"mean": found.residual_norms(), "mean_without_first": found.residual_norms(True)},
    }
    influence, adjacent = answer["block_influence"], found.angular_distance("last_token")[0]
    lines = ["layer  block influence  attention  MLP      angular distance to the next, last token"]
    lines += [
        f"{i:>5}  {influence['layer'][i]:<15.4f}  {influence['attention'][i]:<9.4f}  {influence['mlp'][i]:<7.4f}  "
        f"{adjacent[i]:.4f}"
        for i in range(found.n_layers)
    ]
    return answer, "\n".join(lines)
