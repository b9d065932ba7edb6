"""The probes, by name; what begins the names of probes and tasks. Knows no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.lazy_mapping import LazyMapping

if TYPE_CHECKING:
    from explorer.benchmarks.probes.probe import Probe

#: What begins the name of a probe, what stands for all of them, and what begins the name of a task as a criterion.
PROBE, ALL_PROBES, TASK = "probe:", "probes", "task:"

_HERE = "explorer.benchmarks.probes."

#: What can be asked with no data set at hand.
PROBES: LazyMapping[Probe] = LazyMapping(
    {
        "copying": f"{_HERE}repetition:COPYING",
        "induction": f"{_HERE}repetition:INDUCTION",
        "recall": f"{_HERE}repetition:RECALL",
        "addition": f"{_HERE}numbers:ADDITION",
        "comparison": f"{_HERE}numbers:COMPARISON",
        "sorting": f"{_HERE}numbers:SORTING",
        "brackets": f"{_HERE}brackets:BRACKETS",
        "cloze": f"{_HERE}cloze:CLOZE",
    }
)


def is_item_criterion(name: str) -> bool:
    """Tell whether a criterion's name is that of a task or of a probe that there is."""
    return (name.startswith(TASK) and len(name) > len(TASK)) or (
        name.startswith(PROBE) and name.removeprefix(PROBE) in PROBES
    )
