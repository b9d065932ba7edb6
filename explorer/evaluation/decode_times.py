"""Seconds of a decoded token, and what each attention and MLP adds to them. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from explorer.masks import Mask, Site


@dataclass(frozen=True)
class DecodeTimes:
    """Seconds of one decoded token, one text at a time after a short prompt.

    Args:
        whole: of the whole model.
        sites: that each attention and MLP adds.
    """

    whole: float
    sites: Mapping[Site, float]

    def share(self, mask: Mask) -> float:
        """Return the share of the whole model's seconds that is left under a mask, as the sites add up."""
        return max(1 - sum(self.sites.get(site, 0.0) for site in mask.sites) / self.whole, 0.0)
