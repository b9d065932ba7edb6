"""The published ways to choose what to remove, by name. Knows no torch."""

from __future__ import annotations

from explorer.plans.method import Method
from explorer.plans.one_shot import (
    ATTENTION_DROP,
    BLOCK_INFLUENCE,
    COALITION,
    ENTROPY,
    JOINT_DROP,
    LEAVE_ONE_OUT,
    MAGNITUDE,
    MLP_DROP,
    SHAPLEY,
    TAYLOR,
)
from explorer.plans.search_methods import BEAM, EVOLVE, GREEDY
from explorer.plans.similarity_block import SIMILARITY_BLOCK
from explorer.plans.without_measuring import DEEPEST, RANDOM

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        DEEPEST,
        SIMILARITY_BLOCK,
        BLOCK_INFLUENCE,
        ATTENTION_DROP,
        MLP_DROP,
        JOINT_DROP,
        LEAVE_ONE_OUT,
        TAYLOR,
        MAGNITUDE,
        ENTROPY,
        COALITION,
        SHAPLEY,
        GREEDY,
        BEAM,
        EVOLVE,
        RANDOM,
    )
}
