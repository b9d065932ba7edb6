"""The probes, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from explorer.lazy_mapping import LazyMapping

if TYPE_CHECKING:
    from explorer.benchmarks.probes.probe import Probe

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
