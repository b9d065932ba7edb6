"""The measures and the criteria of searches, by name. Knows no torch until one of them is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.lazy_mapping import LazyMapping

if TYPE_CHECKING:
    from explorer.measures.criterion import Criterion
    from explorer.measures.measure_type import Measure

_HERE = "explorer.measures."

#: What can be measured of a layer or site.
MEASURES: LazyMapping[Measure] = LazyMapping(
    {
        "angular-distance": f"{_HERE}similarity:ANGULAR_DISTANCE",
        "block-influence": f"{_HERE}similarity:BLOCK_INFLUENCE",
        "relative-l1": f"{_HERE}similarity:RELATIVE_L1",
        "relative-l2": f"{_HERE}similarity:RELATIVE_L2",
        "loss": f"{_HERE}leave_one_out:LOSS",
        "kl": f"{_HERE}leave_one_out:KL",
        "logit-l2": f"{_HERE}leave_one_out:LOGIT_L2",
        "disagreement": f"{_HERE}leave_one_out:DISAGREEMENT",
        "taylor": f"{_HERE}gradients:TAYLOR",
        "magnitude": f"{_HERE}gradients:MAGNITUDE",
        "coalition": f"{_HERE}coalition_measures:COALITION",
        "shapley": f"{_HERE}coalition_measures:SHAPLEY",
        "replaceability": f"{_HERE}linear_approximation:REPLACEABILITY",
        "entropy": f"{_HERE}entropy:ENTROPY",
        "attention-entropy": f"{_HERE}attention_patterns:ATTENTION_ENTROPY",
        "attention-sink": f"{_HERE}attention_patterns:ATTENTION_SINK",
    }
)

#: What a search can lower.
CRITERIA: LazyMapping[Criterion] = LazyMapping(
    {
        "perplexity": f"{_HERE}built_in_criteria:PERPLEXITY",
        "kl": f"{_HERE}built_in_criteria:KL",
        "logit-l2": f"{_HERE}built_in_criteria:LOGIT_L2",
        "last-token-cosine": f"{_HERE}last_token_cosine:LAST_TOKEN_COSINE",
    }
)
