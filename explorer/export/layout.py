"""Mask -> what becomes of each tensor and of the config: layers and sites dropped, projections zeroed."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import Any

from explorer.anatomy import PER_LAYER_FIELDS, Family
from explorer.errors import ExportError
from explorer.masks import PARTS, Mask, Site

#: Other names that a site's module has in checkpoint files: Mixtral's.
_NAMES_IN_FILES = {"mlp": ("block_sparse_moe",)}


@dataclass
class Layout:
    """Places tensors by name for one model and mask, and notes which zeroed sites it has met.

    Args:
        drops_sites: leave out the tensors of sites that are off in layers that stay, else zero their projections.
        keeps_first: zero the attention of the first layer that stays all the same.
        norms: names, in a layer, of the norms that are left out with each site.
    """

    family: Family
    mask: Mask
    n_layers: int
    drops_sites: bool = False
    keeps_first: bool = False
    norms: dict[str, tuple[str, ...]] = field(default_factory=dict)
    zeroed: set[Site] = field(default_factory=set)

    def __post_init__(self) -> None:
        names = self.family.layers.split(".")
        stacks = "|".join(re.escape(".".join(names[start:])) for start in range(len(names)))
        self._in_layer = re.compile(rf"({stacks})\.(\d+)\.(.+)")
        self.kept = [layer for layer in range(self.n_layers) if layer not in self.mask.whole_layers]
        inside = {site for site in self.mask.sites if site.layer not in self.mask.whole_layers}
        first = {Site(layer, "attention") for layer in self.kept[:1]} if self.keeps_first else set()
        self.zero_sites: set[Site] = inside & first if self.drops_sites else inside
        self.dropped_sites: set[Site] = inside - self.zero_sites

    @property
    def written(self) -> Mask:
        """The mask of what is not written; what is zeroed still is."""
        return Mask(self.mask.sites - self.zero_sites)

    def new_site(self, site: Site) -> Site:
        """Return a site of a layer that stays under the layer's new number."""
        return Site(self.kept.index(site.layer), site.part)

    def place(self, name: str) -> tuple[str, bool] | None:
        """Return a tensor's new name and whether it is zeroed, or None if it goes."""
        match = self._in_layer.fullmatch(name)
        if match is None:
            return name, False
        stack, layer, rest = match[1], int(match[2]), match[3]
        if layer in self.mask.whole_layers or any(self._belongs(s, rest) for s in self._of(self.dropped_sites, layer)):
            return None
        zeroing = [s for s in self._of(self.zero_sites, layer) if self.family.writes(s.part, rest)]
        self.zeroed.update(zeroing)
        return f"{stack}.{self.kept.index(layer)}.{rest}", bool(zeroing)

    def _of(self, sites: set[Site], layer: int) -> list[Site]:
        return [site for part in PARTS if (site := Site(layer, part)) in sites]

    def _belongs(self, site: Site, tensor: str) -> bool:
        """Tell whether a tensor of a layer goes with a site."""
        names = *self.family.modules(site.part), *_NAMES_IN_FILES.get(site.part, ()), *self.norms.get(site.part, ())
        return tensor.partition(".")[0] in names

    def check(self) -> None:
        """Raise ExportError if a site that should be zeroed had no projection among the tensors placed."""
        if lost := sorted(self.zero_sites - self.zeroed):
            raise ExportError(
                "Cannot find the projection to zero",
                f"none for {lost[0]} among the tensors",
                "Turn off whole layers only",
            )

    def make_config(self, written: dict[str, Any], loaded: Any) -> dict[str, Any]:
        """Return config.json for the layers that stay.

        Args:
            written: the source's config.json.
            loaded: the decoder's transformers config, with per-layer lists in full; they are sliced, never made
                anew, since their pattern starts at the old layer 0.

        Raises:
            ExportError: the result would be another function than what was measured.
        """
        config = copy.deepcopy(written)
        if not self.mask.whole_layers:
            return config
        if getattr(loaded, "scale_attn_by_inverse_layer_idx", False):
            raise ExportError(
                "Layers cannot be dropped exactly", "attention is scaled by the layer's number", "Turn off sites only"
            )
        decoder = config.get("text_config", config)
        decoder[loaded.attribute_map.get("num_hidden_layers", "num_hidden_layers")] = len(self.kept)
        for name in PER_LAYER_FIELDS:
            if isinstance(values := getattr(loaded, name, None), (list, tuple)):
                decoder[name] = [values[layer] for layer in self.kept]
        if hasattr(loaded, "mlp_only_layers"):  # which layers have experts follows from their numbers
            step, dense = loaded.decoder_sparse_step, set(loaded.mlp_only_layers)
            decoder["mlp_only_layers"] = [
                new for new, old in enumerate(self.kept) if old in dense or (old + 1) % step != 0
            ]
            decoder["decoder_sparse_step"] = 1
        return config
