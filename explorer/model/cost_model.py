"""What a model under a mask needs, from counts of its parts. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from explorer.masks import PARTS, Mask


@dataclass(frozen=True)
class Costs:
    """What a model under a mask needs. Bytes are at the dtype it was loaded in."""

    parameters: int
    bytes: int
    kv_bytes_per_token: int
    flops_per_token: int
    state_bytes_per_sequence: int = 0

    def bytes_at(self, bits: int) -> float:
        """Bytes of the weights with so many bits for each, the scales of a quantization left out."""
        return self.parameters * bits / 8


Counts = tuple[int, int, int]


@dataclass(frozen=True)
class CostModel:
    """The counts that every cost follows from.

    Args:
        total: parameters of the whole model, tied ones once.
        total_bytes: bytes of their storage, with what quantization keeps beside them.
        embedding_parameters: parameters that no product uses for a token of text: embeddings but a tied
            head's, other towers.
        layers: for each layer, parameters of its attention, of its MLP, and of all of it.
        layer_bytes: bytes of the same.
        inactive_expert_parameters: for each layer, parameters of experts beyond those that a token is sent to, in its
            attention and its MLP.
        attention_span: for each layer, tokens of the context that its attention sees; infinite where it sees all, 0
            where the checkpoint has no attention, or one that keeps a state in place of tokens.
        kv_entries: for each layer, numbers in its KV cache for one token.
        state_bytes: for each layer, bytes that its cache keeps of a sequence, however long it is.
        attention_widths: for each layer, heads x (width of a key + width of a value).
        itemsize: bytes of a number in the KV cache.
        hands_on: layers that run even where they are off, for what later ones read: nothing of them goes.
    """

    total: int
    total_bytes: int
    embedding_parameters: int
    layers: tuple[Counts, ...]
    layer_bytes: tuple[Counts, ...]
    inactive_expert_parameters: tuple[tuple[int, int], ...]
    attention_span: tuple[float, ...]
    kv_entries: tuple[int, ...]
    state_bytes: tuple[int, ...]
    attention_widths: tuple[int, ...]
    itemsize: int
    hands_on: tuple[int, ...] = ()

    def costs(self, mask: Mask, context: int) -> Costs:
        """Return what the model needs under a mask.

        A site that is off takes its parameters along, a layer that is off its norms too. Only attention has a cache,
        or what is in its place. FLOPs per token are 2 a parameter that multiplies, experts that the token is not sent
        to left out, and 2 x heads x (key + value width) x context for every attention that is on, at the end of a
        context of so many tokens, of which attention with a sliding window sees a window.
        """
        mask -= Mask.of_layers(self.hands_on)
        parameters = self.total - _sum_off(self.layers, mask)
        inactive_expert_parameters = sum(
            inactive_expert_parameters
            for layer, sites in enumerate(self.inactive_expert_parameters)
            for inactive_expert_parameters, off in zip(sites, mask.off(layer), strict=True)
            if not off
        )
        return Costs(
            parameters=parameters,
            bytes=self.total_bytes - _sum_off(self.layer_bytes, mask),
            kv_bytes_per_token=self.kv_bytes(mask, 1),
            state_bytes_per_sequence=sum(kept for layer, kept in enumerate(self.state_bytes) if not mask.off(layer)[0]),
            flops_per_token=2
            * (
                parameters
                - self.embedding_parameters
                - inactive_expert_parameters
                + self._look_back(self.attention_widths, mask, context)
            ),
        )

    def kv_bytes(self, mask: Mask, context: int) -> int:
        """Bytes of the KV cache of so many tokens, under a mask."""
        return self._look_back(self.kv_entries, mask - Mask.of_layers(self.hands_on), context) * self.itemsize

    def _look_back(self, each: tuple[int, ...], mask: Mask, context: int) -> int:
        """Sum what a layer has for each token of a context that its attention sees, over the layers where it is on."""
        return sum(
            number * int(min(attention_span, context))
            for layer, (number, attention_span) in enumerate(zip(each, self.attention_span, strict=True))
            if not mask.off(layer)[0]
        )

    def kind(self, layer: int) -> tuple:
        """Return all that a layer's costs depend on: equal for layers that are alike."""
        each = (
            self.layers,
            self.layer_bytes,
            self.inactive_expert_parameters,
            self.attention_span,
            self.kv_entries,
            self.state_bytes,
            self.attention_widths,
        )
        return *(values[layer] for values in each), layer in self.hands_on

    def sites(self) -> list[dict[str, Any]]:
        """List every site with its parameters, layer by layer, attention first."""
        return [
            {"site": f"{part[0]}{layer}", "layer": layer, "part": part, "parameters": counts[PARTS.index(part)]}
            for layer, counts in enumerate(self.layers)
            for part in PARTS
        ]


def _sum_off(layers: tuple[Counts, ...], mask: Mask) -> int:
    """Sum over the layers what a mask takes away of their (attention, mlp, layer)."""
    off = 0
    for index, (attention, mlp, layer) in enumerate(layers):
        attention_off, mlp_off = mask.off(index)
        off += layer if attention_off and mlp_off else attention * attention_off + mlp * mlp_off
    return off
