"""A model -> where each of its layers keeps its parts, found by experiment.

One small pass shows what each module of a layer gives. Those whose outputs add up to the layer's output less its input
are its sites, or norms behind them; a site whose later tokens change with the first one is attention, whatever it is
called, and any other an MLP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from explorer.errors import UnsupportedModel
from explorer.masks import PARTS, Part, Site
from explorer.model.architecture import Architecture, has_matrix, is_mlp_name, match_outputs
from explorer.model.module_calls import ModuleCall, refusing_failures, watch_layers
from explorer.model.weights import find_input_device

#: Modules that may add to the residual stream of one layer, at the most.
_MOST = 4

#: Share of the largest logit by which a logit must change with a later token to tell that it sees it.
_NOISE = 1e-3

_Calls = dict[str, ModuleCall]

#: Part -> modules that were taken out, and which of them were added beside the last one.
_TakenOut = dict[Part, tuple[tuple[str, ...], tuple[str, ...]]]


@torch.inference_mode()
def find_updates(model: Any, architecture: Architecture) -> Architecture:
    """Find which modules of each layer add to the residual stream.

    Where a layer is not its input plus what some of its modules add, only whole layers can go.

    Raises UnsupportedModel if the model's code fails, or it is no decoder: a token sees those after it.
    """
    layers: list[nn.Module] = list(model.get_submodule(architecture.layers))
    vocabulary = model.config.get_text_config(decoder=True).vocab_size
    with refusing_failures(model, "The model cannot be measured", "Use a supported family"):
        device = find_input_device(model)
    ids = torch.randint(vocabulary, (2, 8), generator=torch.Generator().manual_seed(0)).to(device)
    other = ids.clone()
    other[:, -1] = (other[:, -1] + 1) % (int(ids.max()) + 1)
    found = [architecture] * len(layers)

    def look(index: int, calls: _Calls) -> None:
        taken = _list_taken_out(model.config, index)
        found[index] = _name_taken_out(_explain(architecture, layers[index], index, calls, taken), taken)

    _check_causal(model, watch_layers(model, layers, torch.cat((ids, other)), look))
    if whole := next((each.whole for each in found if each.whole), ""):
        return only_whole(architecture, whole)
    named = _name_outputs(found, layers)
    return named[0] if all(each == named[0] for each in named) else replace(named[0], each=tuple(named))


def _list_taken_out(config: Any, index: int) -> _TakenOut:
    """Return what an earlier export took out of a layer, or put something in the place of, by its old names."""
    pruned: Any = getattr(config, "pruned", None)
    taken: _TakenOut = {}
    for part in PARTS if isinstance(pruned, dict) else ():
        site = str(Site(index, part))
        if site in (*pruned["off"], *pruned.get("stand_ins", {})):
            modules, beside = (pruned.get(name, {}).get(site, ()) for name in ("modules", "beside"))
            taken[part] = tuple(modules or pruned[part]), tuple(beside)
    return taken


def _name_taken_out(own: Architecture, taken: _TakenOut) -> Architecture:
    """Return a layer's architecture with the names of what was taken out of it."""
    for part, (modules, beside) in taken.items() if not own.whole else ():
        adds = (*own.adds, *(name for name in beside if name not in own.adds))
        own = replace(own, attention=modules, adds=adds) if part == PARTS[0] else replace(own, mlp=modules, adds=adds)
    return own


def only_whole(architecture: Architecture, why: str) -> Architecture:
    """Return the architecture of a model of which only whole layers can go."""
    return Architecture(architecture.layers, (), (), "", "", whole=why)


def _check_causal(model: Any, logits: Float[Tensor, "batch window vocabulary"]) -> None:
    """Refuse a model whose first tokens change with the last one: the second half of the rows has another."""
    before, after = logits[:, :-1].float().chunk(2)
    if before.numel() == 0:
        raise UnsupportedModel("The model is no decoder", "it gives no logits for text", "Use a decoder-only model")
    share = max(_NOISE, 16 * torch.finfo(model.dtype).eps)  # experts round otherwise in other company
    if float((before - after).abs().max()) > share * float(before.abs().max()):
        raise UnsupportedModel(
            "The model is no decoder", "its tokens see those that come after them", "Use a decoder-only model"
        )


def _explain(architecture: Architecture, layer: nn.Module, index: int, calls: _Calls, taken: _TakenOut) -> Architecture:
    """Return one layer's architecture: by what they are called if that fits, else by what fits."""
    if "" not in calls or calls[""].gave.shape != calls[""].given.shape:
        return only_whole(
            architecture, f"layer {index} ({type(layer).__name__}) gives no hidden states as it takes them"
        )
    added = calls[""].gave.float() - calls[""].given.float()
    given = {name: call.gave.float().view(added.shape) for name, call in calls.items() if _alike(call, added)}
    names = [name for name in given if name]
    if architecture.attention and (found := _find_norms(architecture, calls, names, taken)):
        return found
    if architecture.attention and _adds_inside(architecture, calls):
        return replace(architecture, residual_inside=True)
    for scale, members in _find_sums(layer, names, given, added, _tolerance(calls)):
        if found := _assign(replace(architecture, multiplier=scale), layer, members, calls, taken):
            return found
    kind, rest = type(layer).__name__, tell_rest({name: given[name] for name in names}, added, _tolerance(calls))
    return only_whole(architecture, f"layer {index} ({kind}) is not its input plus what its modules add: {rest}")


def tell_rest(given: dict[str, Float[Tensor, " *any"]], added: Float[Tensor, " *any"], tolerance: float) -> str:
    """Say which sum of modules comes closest to what a layer adds, and whose output is missing from it."""
    sums = [members for count in range(1, _MOST + 1) for members in combinations(given, count)]
    if not sums:
        return "none gives what could be added"
    rests = ((members, added - sum(given[member] for member in members)) for members in sums)
    members, rest = min(rests, key=lambda each: float(each[1].norm()))
    missing = next((name for name, gave in given.items() if float((gave - rest).abs().max()) <= tolerance), None)
    named = f"which is what {missing} gives" if missing else "which none of its modules gives"
    return (
        f"{float(rest.norm() / added.norm()):.0%} of that are missing from the sum of {' and '.join(members)}, {named}"
    )


def _alike(call: ModuleCall, added: Float[Tensor, " *any"]) -> bool:
    return call.gave.numel() == added.numel() and call.gave.shape[-1] == added.shape[-1]


def _tolerance(calls: _Calls) -> float:
    gave = calls[""].gave
    return 16 * torch.finfo(gave.dtype).eps * float(gave.abs().max())


def _find_norms(architecture: Architecture, calls: _Calls, names: list[str], taken: _TakenOut) -> Architecture | None:
    """Return the sites that names tell of, with the norms behind them, if these add up; what was taken out has none."""
    sites = (*architecture.attention, *architecture.mlp)
    if not all(name in names for name in sites):
        return None
    added = calls[""].gave.float() - calls[""].given.float()
    norms = [name for name in names if name not in sites]
    first, second = ((None,) if part in taken else (None, *norms) for part in PARTS)
    for attention in first:
        for mlp in second:
            found = replace(architecture, attention_norm=attention, mlp_norm=mlp)
            updates = [calls[found.update(part)].gave.float().view(added.shape) for part in PARTS]
            if float((updates[0] + updates[1] - added).abs().max()) <= _tolerance(calls):
                return found
    return None


def _adds_inside(architecture: Architecture, calls: _Calls) -> bool:
    """Tell whether each site is given the residual stream as well, and gives it with what it adds."""
    stream = calls[""].given
    for name in (*architecture.attention, *architecture.mlp):
        if (call := calls.get(name)) is None or call.residual is None or not torch.equal(call.residual, stream):
            return False
        stream = call.gave
    return torch.equal(stream, calls[""].gave)


def _find_sums(
    layer: nn.Module,
    names: list[str],
    given: dict[str, Float[Tensor, " *any"]],
    added: Float[Tensor, " *any"],
    tolerance: float,
) -> Iterator[tuple[str | None, tuple[str, ...]]]:
    """Yield the modules whose outputs add up to what the layer adds, with the name of what multiplies them, if any."""
    distinct = [
        name
        for number, name in enumerate(names)
        if given[name].any() and not any(torch.equal(given[name], given[other]) for other in names[:number])
    ]
    scales: dict[str | None, float] = {None: 1.0}
    scales |= {name: value for name, value in vars(layer).items() if isinstance(value, float) and value not in (0, 1)}
    for name, scale in scales.items():
        for count in range(1, _MOST + 1):
            for members in combinations(distinct, count):
                total = scale * sum(given[member] for member in members)
                if float((total - added).abs().max()) <= tolerance:
                    yield name, members


def _assign(
    architecture: Architecture, layer: nn.Module, members: tuple[str, ...], calls: _Calls, taken: _TakenOut
) -> Architecture | None:
    """Sort modules that add up into attention and MLP; None if what is behind a norm is not one module.

    In a layer that lacks one of the two, whatever does not stand in for that is the other.
    """
    known = {name: part for part, (modules, _) in taken.items() for name in modules}
    sources = [member if member in known else _find_source(layer, member, calls) for member in members]
    if not all(sources):
        return None
    mixing = [bool(source) and calls[str(source)].mixes for source in sources]
    if taken:
        other = PARTS[1] if PARTS[0] in taken else PARTS[0]
        mixing = [known.get(str(source), other) == PARTS[0] for source in sources]
    elif (
        len(members) > 1 and len(set(mixing)) == 1
    ):  # both mix, or neither: the last one is an MLP by its name or place
        mixing[-1] = False if not mixing[0] or is_mlp_name(str(sources[-1])) else mixing[-1]
        mixing[0] = True
    parts: dict[str, list[int]] = {
        part: [number for number, mixes in enumerate(mixing) if mixes == (part == PARTS[0])] for part in PARTS
    }
    modules, norms, adds = {}, {}, []
    for part, numbers in parts.items():
        own = [str(sources[number]) for number in numbers]
        if any(members[number] != sources[number] for number in numbers[:-1]):
            return None
        adds += own[:-1]
        modules[part] = (*_list_before(layer, own, sources, calls), *own)
        norms[part] = members[numbers[-1]] if numbers and members[numbers[-1]] != own[-1] else None
    return replace(
        architecture,
        attention=modules["attention"],
        mlp=modules["mlp"],
        attention_norm=norms["attention"],
        mlp_norm=norms["mlp"],
        adds=tuple(adds),
    )


def _find_source(layer: nn.Module, member: str, calls: _Calls) -> str | None:
    """Return a module itself, or, if it is a norm or the like, the one whose output it was given; None if none was."""
    if has_matrix(layer.get_submodule(member)):
        return member
    earlier = list(calls)[: list(calls).index(member)]
    given = calls[member].given
    for name in reversed(earlier):
        gave = calls[name].gave
        if gave.numel() == given.numel() and torch.equal(gave.view(given.shape), given):
            return _find_source(layer, name, calls)
    return None


def _list_before(layer: nn.Module, own: list[str], sources: list[str | None], calls: _Calls) -> list[str]:
    """List the projections that run before a site that is the last of several: they have no other use."""
    if len(own) != 1 or not isinstance(getattr(layer.get_submodule(own[0]), "weight", None), Tensor):
        return []
    earlier: list[str] = []
    for name in calls:
        if name == own[0]:
            return earlier
        if name in sources:
            earlier = []
        elif name and has_matrix(layer.get_submodule(name)):
            earlier.append(name)
    return []


def _name_outputs(found: list[Architecture], layers: list[nn.Module]) -> list[Architecture]:
    """Give each layer's architecture the pattern of the tensors that it writes with, one for all layers of a form."""
    sites: dict[str, list[nn.Module]] = {}
    for own, layer in zip(found, layers, strict=True):
        for name in (*own.attention, *own.mlp):
            sites.setdefault(name, []).append(layer.get_submodule(name))

    def pattern(names: tuple[str, ...], adds: tuple[str, ...]) -> str:
        writing = [name for name in names if name in (names[-1], *adds)]
        return "|".join(match_outputs(name, sites[name]) for name in writing)

    return [
        replace(own, attention_out=pattern(own.attention, own.adds), mlp_out=pattern(own.mlp, own.adds))
        for own in found
    ]
