"""Where a model keeps its layers, attention and MLP: told by what its modules are called, and shown by an experiment.

No family is listed here. What is told by names is a guess, which `dissection` tries out at the first load of a model;
the self-check in `loading` has the last word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.errors import UnsupportedModel
from explorer.masks import Mask, Part

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """How one family of decoders names its parts, and how its layers add to the residual stream.

    Args:
        layers: path of the list of layers in the causal language model.
        attention, mlp: names, in a layer, of the modules of the site in the order they run; most have one.
        attention_out, mlp_out: a pattern for the checkpoint's tensors, named within a layer, that write to the
            residual stream; zeroed, they turn the site off.
        attention_norm, mlp_norm: names, in a layer, of a norm between the site and the residual stream.
        multiplier: name of the layer's attribute that scales what its sites add.
        residual_inside: a site takes the residual stream as its second argument and returns the sum.
        adds: names, in a layer, of modules that add to the residual stream beside the last one of their site.
        known: an earlier load of the same files has shown that it fits; else an experiment is to show it.
        whole: why only whole layers can go; empty where sites can.
        hands_on: layers that later ones read something of beside the residual stream: they run for that even where
            they are off, and then hand the stream on as it came; None before an experiment has looked for them.
        each: every layer by itself, where they are of several kinds.
    """

    layers: str = "model.layers"
    attention: tuple[str, ...] = ("self_attn",)
    mlp: tuple[str, ...] = ("mlp",)
    attention_out: str = r"self_attn\.o_proj\..+"
    mlp_out: str = r"mlp\.down_proj\..+"
    attention_norm: str | None = None
    mlp_norm: str | None = None
    multiplier: str | None = None
    residual_inside: bool = False
    adds: tuple[str, ...] = ()
    known: bool = False
    whole: str = ""
    hands_on: tuple[int, ...] | None = None
    each: tuple[Architecture, ...] = ()

    def at(self, layer: int) -> Architecture:
        """Return the architecture of one layer."""
        return self.each[layer] if self.each else self

    @property
    def decoder(self) -> str:
        """Path of the module that runs the layers, and the final norm after them."""
        return self.layers.rpartition(".")[0]

    @property
    def notices(self) -> tuple[str, ...]:
        """What a user should know of how its layers go, a line each."""
        layers = Mask.of_layers(self.hands_on or ())
        said = f"Later layers read keys and values of {layers}: where off, they still run for those, and save nothing"
        return (said,) if layers.sites else ()

    def modules(self, part: Part) -> tuple[str, ...]:
        """Names of a site's modules in a layer."""
        return self.attention if part == "attention" else self.mlp

    def update(self, part: Part) -> str:
        """Name of the module in a layer whose output is what the site adds to the residual stream, if it has any."""
        norm = self.attention_norm if part == "attention" else self.mlp_norm
        return norm or (self.modules(part)[-1] if self.modules(part) else "")

    def writes(self, part: Part, tensor: str) -> bool:
        """Tell whether a tensor of a layer is what the site writes to the residual stream with."""
        return re.fullmatch(self.attention_out if part == "attention" else self.mlp_out, tensor) is not None


#: What an export calls, in a site, what stands in for it; and, in a layer, what the stream passes before and after it.
STAND_IN, BESIDE = "stand_in", ("before", "after")

_ATTENTION = re.compile(r"(self_?)?(attn|attention)")
_MLP = re.compile(r"mlp|ffn|feed_forward|moe|block_sparse_moe")
_PAIR = ("fc1", "fc2")  # an MLP that is no module of its own
_OUT = re.compile(r"(o|out|c|down)_proj|dense|dense_4h_to_h|fc2|fc_out|output_linear|linear_out|proj_down|w2|Wo")


def count_layers(config: Any) -> int:
    """Number of decoder layers that a transformers config declares. Raises UnsupportedModel if it does not."""
    decoder = config.get_text_config(decoder=True)
    count = getattr(decoder, "decoder_layers", None) or getattr(decoder, "num_hidden_layers", None)
    if not isinstance(count, int):
        raise UnsupportedModel(
            "The config does not say how many layers there are", str(count), "Use a decoder-only model"
        )
    return count


def find_base_type(model_type: str) -> str:
    """Return the model type whose code a pruned checkpoint is written over; of any other its own."""
    return "llama" if model_type == "nemotron-nas" else model_type.removeprefix("pruned-")


def find_architecture(model: nn.Module) -> Architecture:
    """Return where this model seems to keep its parts, by what they are called.

    Of a model whose layers do not each have one attention and one MLP by name, only the list of layers is known: what
    its modules do is for an experiment to show. Raises UnsupportedModel if there is no such list.
    """
    config: Any = model.config
    n_layers = count_layers(config)
    stacks = _find_stacks(model, n_layers)
    for path, stack in stacks:
        attention, mlp = _find_child(stack, _ATTENTION), _find_mlp(stack)
        if attention and mlp:
            attention_out, mlp_out = (
                match_outputs(name, [layer.get_submodule(name) for layer in stack]) for name in (attention, mlp[-1])
            )
            return Architecture(path, (attention,), mlp, attention_out, mlp_out)
    for path, _ in stacks:
        return Architecture(path, (), (), "", "")
    raise UnsupportedModel(
        f"The architecture {find_base_type(config.get_text_config(decoder=True).model_type)!r} is not known",
        f"it has no list of {n_layers} layers",
        "Use a decoder-only model",
    )


def has_own_head(model: Any) -> bool:
    """Tell whether the head's weights are not the embedding's: by what was loaded, whatever the config says."""
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if head is embedding:
        return False
    tied: dict[str, str] = getattr(model, "all_tied_weights_keys", None) or {}
    return not any(model.get_parameter(name) is head for names in tied.items() for name in names)


def _has(model: nn.Module, path: str) -> bool:
    try:
        model.get_submodule(path)
    except AttributeError:
        return False
    return True


def _find_stacks(model: Any, n_layers: int) -> list[tuple[str, nn.ModuleList]]:
    """List the paths of lists of so many modules, of the text's decoder where the model says which one that is."""
    from torch import nn

    stacks = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    of_decoder = set(map(id, decoder.modules())) if isinstance(decoder, nn.Module) else set()
    return [(path, stack) for path, stack in stacks if id(stack) in of_decoder] or stacks


def _find_mlp(stack: nn.ModuleList) -> tuple[str, ...]:
    """Names of the modules of each layer's MLP, by what they are called; none if it is not told."""
    if name := _find_child(stack, _MLP):
        return (name,)
    return _PAIR if all(_has(layer, name) for layer in stack for name in _PAIR) else ()


def _find_child(stack: nn.ModuleList, pattern: re.Pattern[str]) -> str | None:
    """Name of the one child whose name fits, that every layer has, and some with parameters; None if not just one is.

    Where an earlier export took a site out, it has none.
    """
    names = [
        name
        for name, _ in stack[0].named_children()
        if pattern.fullmatch(name)
        and all(_has(layer, name) for layer in stack)
        and any(has_parameters(layer, name) for layer in stack)
    ]
    return names[0] if len(names) == 1 else None


def has_matrix(module: nn.Module) -> bool:
    """Tell whether any parameter of a module is more than a vector: a norm's are not."""
    return any(parameter.dim() > 1 for parameter in module.parameters())


def has_parameters(layer: nn.Module, *names: str) -> bool:
    """Tell whether each of these modules of a layer has any parameters."""
    return all(next(layer.get_submodule(name).parameters(), None) is not None for name in names)


def has_stand_in(layer: nn.Module, *names: str) -> bool:
    """Tell whether an earlier export put an affine map in the place of one of these modules of a layer."""
    return any(getattr(layer.get_submodule(name), STAND_IN, None) is not None for name in names)


def is_mlp_name(name: str) -> bool:
    """Tell whether a module is called what families call an MLP."""
    return _MLP.fullmatch(name) is not None


def match_outputs(name: str, sites: list[nn.Module]) -> str:
    """Return a pattern for the tensors that a site writes to the residual stream with, in each layer's form.

    Experts, shared ones and dense MLPs each have a projection of their own, a module or a parameter; all are meant.
    A pattern that no tensor fits is returned where there is none.
    """
    if not any(list(site.children()) for site in sites) and all(hasattr(site, "weight") for site in sites):
        return rf"{name}\..+"  # a projection itself
    paths, added = ({path for site in sites for path in list_all(site)} for list_all in (_list_outputs, _list_added))
    biases = "".join(sorted(rf"|{re.escape(f'{name}.{path}')}" for path in added))
    if len(paths) == 1 and not re.search(r"(^|\.)(\d+|experts)(\.|$)", path := next(iter(paths))):
        return re.escape(f"{name}.{path}.").replace(r"\_", "_") + ".+" + biases
    leaves = "|".join(sorted({path.rpartition(".")[2] for path in paths})) or "unknown"
    return rf"{name}\.(\w+\.)*({leaves})(_(bias|blocks|scales|scale_inv))?(\.\w+)?" + biases


def _list_outputs(site: nn.Module) -> list[str]:
    """Paths, in a site, of modules that look like output projections, and of parameters that no such module holds.

    Of modules in a row, the last one with a matrix, where none is called so.
    """
    from torch import nn

    names = [name for name, _ in site.named_modules()]
    names += [name for name, _ in site.named_parameters() if name.rpartition(".")[2] not in ("weight", "bias")]
    found = [name for name in names if _OUT.fullmatch(name.rpartition(".")[2])]
    if not found and isinstance(site, nn.Sequential):
        return [name for name, module in site.named_children() if has_matrix(module)][-1:]
    return found


def _list_added(site: nn.Module) -> list[str]:
    """Paths, in a site, of biases that no weight goes with: they are added to what projections give."""
    return [
        f"{name}.bias".lstrip(".")
        for name, module in site.named_modules()
        if "bias" in module._parameters
        and "weight" not in module._parameters
        and module._parameters["bias"] is not None
    ]
