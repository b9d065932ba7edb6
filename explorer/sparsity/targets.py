"""What a modifier is to put zeros into: the linear maps of each layer's attention and MLP, by a part of their names."""

from __future__ import annotations

from dataclasses import dataclass, replace

from explorer.deltas import SparsityPattern
from explorer.errors import ModifyError
from explorer.masks import Mask
from explorer.modifiers import LinearMap, Option, Setting, list_expert_maps, list_linear_maps, list_stacks
from explorer.sparsity.sparsity import Entries, Marks, Sparsity
from explorer.sparsity.watcher import find_watcher

TARGETS = Option(
    "targets", "parts of the names of matrices, with + between", "all", word="all",
    form=r"[A-Za-z0-9._]+(\+[A-Za-z0-9._]+)*", example="mlp+o_proj",
)  # fmt: skip

LAYERS = Option(
    "layers", "those to be pruned, such as 0-11+15", "all", word="all",
    form=r"\d{1,4}(-\d{1,4})?(\+\d{1,4}(-\d{1,4})?)*", example="0-11+15",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """The linear maps of one layer that get zeros.

    Args:
        setting: of the modifier.
        layer: which layer.
        maps: those of its attention and MLP that are on and named.
        sparsity: how many zeros each gets.
    """

    setting: Setting
    layer: int
    maps: tuple[LinearMap, ...]
    sparsity: Sparsity

    def weight(self, linear: LinearMap) -> Entries:
        """Return the weights of a map in the variant so far, float32."""
        return self.setting.weight(self.layer, linear).float()

    def zero(self, linear: LinearMap, zeros: Marks) -> None:
        """Have entries of a map zeroed from now on; the others stay."""
        kept = linear.like((~zeros).float())
        self.setting.put(self.layer, linear.parameter, SparsityPattern.of(kept))

    def put(self, linear: LinearMap, weight: Entries) -> None:
        """Have a map with other weights from now on."""
        self.setting.put(self.layer, linear.parameter, linear.like(weight))

    def choose(self, linear: LinearMap, scores: Entries) -> Marks:
        """Return where a map gets zeros by its scores, and tell whoever watches."""
        return self.tell(linear, scores, self.sparsity.find_lowest(scores))

    def tell(self, linear: LinearMap, scores: Entries, zeros: Marks) -> Marks:
        """Tell whoever watches by which scores a map gets which zeros; return these."""
        find_watcher().scores(self.layer, linear.name, scores, zeros)
        return zeros

    def at(self, share: float) -> Target:
        """Return this with another share of zeros."""
        return replace(self, sparsity=self.sparsity.at(share))


def list_targets(setting: Setting) -> list[Target]:
    """List the layers that have maps to prune, in the order of the stream.

    Raises ModifyError: nothing has such a name, experts do that are not told apart, or rows do not divide into groups.
    """
    sparsity = Sparsity.of(setting.origin.modifier)
    layers = read_layers(setting.options["layers"], setting.loaded.n_layers)
    targets = [Target(setting, layer, _find_maps(setting, layer), sparsity) for layer in layers]
    for linear in (linear for target in targets for linear in target.maps):
        sparsity.check(linear.name, linear.weight.shape[-1])
    if not any(target.maps for target in targets):
        raise ModifyError("There is nothing to prune", str(setting.origin.modifier), "Name other targets or layers")
    return [target for target in targets if target.maps]


def read_layers(named: str, n_layers: int) -> list[int]:
    """List the layers that an option names. Raises MaskError: the model lacks one."""
    return (
        list(range(n_layers))
        if named == "all"
        else sorted(Mask.parse(named.replace("+", ",")).checked(n_layers).whole_layers)
    )


def _find_maps(setting: Setting, layer: int) -> tuple[LinearMap, ...]:
    experts = list_expert_maps(setting.loaded, layer, setting.mask)
    known = {each.name for each in experts}
    for name in list_stacks(setting.loaded, layer, setting.mask):
        if name not in known and _is_meant(setting, name):
            raise ModifyError(
                "Experts that lie in one tensor are not told apart here",
                f"{name} of layer {layer}", "Name what is to be pruned, such as targets=attn",
            )  # fmt: skip
    maps = [*list_linear_maps(setting.loaded, layer, setting.mask), *experts]
    return tuple(linear for linear in maps if _is_meant(setting, linear.name))


def _is_meant(setting: Setting, name: str) -> bool:
    named = setting.options["targets"]
    return named == "all" or any(part in name for part in named.split("+"))
