"""The oracle: the same answers from plain transformers and slow NumPy, sharing no code with the library."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from explorer.masks.mask import Mask

_LLAMA = {"layers": "model.layers", "attention": "self_attn", "mlp": "mlp",
          "attention_out": "self_attn.o_proj", "mlp_out": "mlp.down_proj"}  # fmt: skip
_SANDWICH = {**_LLAMA, "attention_update": "post_attention_layernorm", "mlp_update": "post_feedforward_layernorm"}
_NAMES = {
    "gemma2": _SANDWICH,
    "gemma3_text": _SANDWICH,
    "gpt2": {"layers": "transformer.h", "attention": "attn", "mlp": "mlp",
             "attention_out": "attn.c_proj", "mlp_out": "mlp.c_proj"},
    "gpt_neox": {"layers": "gpt_neox.layers", "attention": "attention", "mlp": "mlp",
                 "attention_out": "attention.dense", "mlp_out": "mlp.dense_4h_to_h"},
}  # fmt: skip

_BLOOM = {"layers": "transformer.h", "attention": "self_attention", "mlp": "mlp",
          "attention_out": "self_attention.dense", "mlp_out": "mlp.dense_4h_to_h"}  # fmt: skip
_EXPERTS = {**_LLAMA, "mlp_out": "mlp.experts"}
_NAMES |= {
    "olmo2": _SANDWICH,
    "phi": {**_LLAMA, "attention_out": "self_attn.dense", "mlp_out": "mlp.fc2"},
    "starcoder2": {**_LLAMA, "mlp_out": "mlp.c_proj"},
    "opt": {**_LLAMA, "layers": "model.decoder.layers", "mlp": "fc2", "mlp_out": "fc2",
            "attention_out": "self_attn.out_proj"},
    "bloom": _BLOOM,
    "falcon": _BLOOM,
    "mixtral": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "gpt_oss": _EXPERTS,
}  # fmt: skip

Row = np.ndarray


def names(model: Any) -> dict[str, str]:
    return _NAMES.get(model.config.model_type, _LLAMA)


def plain(folder: Path, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """Load a checkpoint with plain transformers."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **options).eval()


def zeroed(folder: Path, mask: Mask, dtype: torch.dtype = torch.float32) -> Any:
    """Load a checkpoint and zero the output projections, biases too, of the sites that are off."""
    return zero(plain(folder, dtype), mask)


@torch.no_grad()
def zero(model: Any, mask: Mask) -> Any:
    """Zero the output projections, biases too, of sites; return the model."""
    where = names(model)
    for site in mask.sites:
        layer = model.get_submodule(f"{where['layers']}.{site.layer}")
        for name, parameter in layer.named_parameters():
            experts = (
                where["mlp_out"] == "mlp.experts" and site.part == "mlp" and "mlp." in name and "down_proj" in name
            )
            if experts or name.startswith(where[site.part + "_out"] + "."):
                parameter.zero_()
    return model


@torch.no_grad()
def logits(model: Any, ids: np.ndarray) -> torch.Tensor:
    return model(torch.from_numpy(ids), use_cache=False).logits


def window_nll(model: Any, ids: np.ndarray, at_once: int = 1) -> np.ndarray:
    """Nats of each window from its full logits, in float64; so many windows in every batch, the last one repeated."""
    found = []
    for start in range(0, len(ids), at_once):
        rows = [min(start + i, len(ids) - 1) for i in range(at_once)]
        for row, out in zip(rows[: len(ids) - start], logits(model, ids[rows]), strict=False):
            found.append(F.cross_entropy(out[:-1].double(), torch.from_numpy(ids[row, 1:]), reduction="sum"))
    return np.array(found)


def perplexity(model: Any, ids: np.ndarray, at_once: int = 1) -> float:
    return math.exp(window_nll(model, ids, at_once).sum() / (ids.shape[0] * (ids.shape[1] - 1)))


@torch.no_grad()
def greedy(model: Any, prompt: list[int], steps: int) -> list[int]:
    """Take the likeliest token again and again, with no cache."""
    ids, stop = list(prompt), model.generation_config.eos_token_id
    for _ in range(steps):
        ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        if ids[-1] == stop:
            break
    return ids[len(prompt) :]


@torch.no_grad()
def hidden_states(model: Any, ids: np.ndarray) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Return the L+1 boundary states and, for each part, what each layer's site adds: (windows, window, width)."""
    where, handles = names(model), []
    states: list[np.ndarray] = []
    updates: dict[str, list[np.ndarray]] = {"attention": [], "mlp": []}
    layers = model.get_submodule(where["layers"])

    def keep_update(into: list[np.ndarray], args: Any, output: Any) -> None:
        added = (output[0] if isinstance(output, tuple) else output).float()
        if model.config.model_type == "bloom":  # the residual is added inside
            added = added - args[1].float()
        into.append((added * getattr(model.config, "residual_multiplier", 1.0)).numpy().reshape(*ids.shape, -1).copy())

    def keep(into: list[np.ndarray], value: Any) -> None:
        into.append((value[0] if isinstance(value, tuple) else value).float().numpy().copy())

    for layer in layers:
        handles.append(
            layer.register_forward_pre_hook(
                lambda _, args, kwargs: keep(states, args[0] if args else kwargs["hidden_states"]), with_kwargs=True
            )
        )
        for part, into in updates.items():
            module = layer.get_submodule(where.get(part + "_update", where[part]))
            handles.append(
                module.register_forward_hook(lambda _, args, output, into=into: keep_update(into, args, output))
            )
    handles.append(layers[-1].register_forward_hook(lambda _, args, output: keep(states, output)))
    model(torch.from_numpy(ids), use_cache=False)
    for handle in handles:
        handle.remove()
    return states, updates


def _cosine(a: Row, b: Row) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(np.dot(a, b) / (np.linalg.norm(a) * np.linalg.norm(b)))


def _mean_cosine(a: np.ndarray, b: np.ndarray, first: int) -> float:
    windows, window = a.shape[:2]
    return float(np.mean([_cosine(a[w, t], b[w, t]) for w in range(windows) for t in range(first, window)]))


def angular_distances(states: list[np.ndarray], choice: str) -> list[list[float]]:
    """Return row n-1, column l: mean arccos(cos(x_l, x_{l+n})) / pi over the tokens chosen."""
    windows, window = states[0].shape[:2]
    tokens = {"last_token": [window - 1], "mean": range(window), "mean_without_first": range(1, window)}[choice]

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        cosines = [_cosine(a[w, t], b[w, t]) for w in range(windows) for t in tokens]
        return float(np.mean([math.acos(max(-1.0, min(1.0, c))) / math.pi for c in cosines]))

    n_layers = len(states) - 1
    return [
        [distance(states[left], states[left + n]) for left in range(n_layers - n + 1)] for n in range(1, n_layers + 1)
    ]


def is_parallel(model: Any) -> bool:
    config = model.config
    return (
        config.model_type in ("phi", "cohere2")
        or getattr(config, "use_parallel_residual", False)
        or getattr(config, "new_decoder_architecture", False)
        or getattr(config, "parallel_attn", False)
    )


def sizes(model: Any, ids: np.ndarray, power: int) -> dict[str, np.ndarray]:
    """Return L1 or L2 norms of updates over those of what they are added to: unit -> (windows, window, L)."""
    states, updates = hidden_states(model, ids)
    found: dict[str, list[np.ndarray]] = {"layer": [], "attention": [], "mlp": []}

    def ratio(update: np.ndarray, before: np.ndarray) -> np.ndarray:
        above, below = (np.power(np.abs(v).astype(np.float64), power).sum(-1) for v in (update, before))
        return np.power(above / below, 1 / power)

    for layer, (a, m) in enumerate(zip(updates["attention"], updates["mlp"], strict=True)):
        x = states[layer]
        found["layer"].append(ratio(states[layer + 1] - x, x))
        found["attention"].append(ratio(a, x))
        found["mlp"].append(ratio(m, x if is_parallel(model) else x + a))
    return {unit: np.stack(each, axis=-1) for unit, each in found.items()}


def influences(model: Any, ids: np.ndarray, first: int = 0) -> dict[str, list[float]]:
    """Return 1 - mean cos(before, after) for layers, attention and MLP, tokens from `first` on."""
    states, updates = hidden_states(model, ids)
    parallel = is_parallel(model)
    found: dict[str, list[float]] = {"layer": [], "attention": [], "mlp": []}
    for layer, (a, m) in enumerate(zip(updates["attention"], updates["mlp"], strict=True)):
        x = states[layer].astype(np.float64)
        before = x if parallel else x + a
        found["layer"].append(1 - _mean_cosine(x, states[layer + 1], first))
        found["attention"].append(1 - _mean_cosine(x, x + a, first))
        found["mlp"].append(1 - _mean_cosine(before, before + m, first))
    return found


def _sum_weights(model: Any, worth: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, np.ndarray]:
    """Sum what weights are worth, biases left out, over each layer, its attention and its MLP: unit -> (L,)."""
    where = names(model)
    state_cache = {"layer": ("",), "attention": (where["attention"] + ".",), "mlp": (where["mlp"] + ".",)}
    if model.config.model_type == "opt":
        state_cache["mlp"] = ("fc1.", "fc2.")
    layers = model.get_submodule(where["layers"])

    def total(layer: Any, starts: tuple[str, ...]) -> float:
        weights = {name: p for name, p in layer.named_parameters() if name.startswith(starts)}
        return sum(float(worth(p).double().sum()) for name, p in weights.items() if not name.endswith("bias"))

    return {unit: np.array([total(layer, starts) for layer in layers]) for unit, starts in state_cache.items()}


def magnitude(folder: Path) -> dict[str, np.ndarray]:
    """Return sum |W|: unit -> (L,)."""
    return _sum_weights(plain(folder), lambda w: w.detach().abs())


def taylor(folder: Path, ids: np.ndarray) -> dict[str, np.ndarray]:
    """Return sum |W dL/dW| from one backward pass of the mean loss that transformers computes itself: unit -> (L,)."""
    model, tokens = plain(folder), torch.from_numpy(ids)
    model(tokens, labels=tokens, use_cache=False).loss.backward()
    return _sum_weights(model, lambda w: torch.zeros(1) if w.grad is None else (w.detach() * w.grad).abs())


@torch.no_grad()
def modified(folder: Path, variant: Any, dtype: torch.dtype = torch.float32) -> Any:
    """Load a checkpoint with plain transformers, zero what is off, overwrite weights and hook in what stands in."""
    model = zeroed(folder, variant.mask, dtype)
    where = names(model)
    layers = model.get_submodule(where["layers"])
    for delta in variant.deltas:
        for layer, named in delta.weights.items():
            for name, tensor in named.items():
                layers[layer].get_parameter(name).copy_(tensor)
        for place, stand_in in delta.stand_ins.items():
            site, tensors = min(place.sites), {name: tensor.float() for name, tensor in stand_in.tensors.items()}
            if place.whole_layers:
                for each in sorted(place.whole_layers):
                    _replace_layer(layers[each], tensors if each == site.layer else {})
            else:
                _replace_site(model, layers[site.layer], site.part, tensors)
    return model


def _affine(x: torch.Tensor, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    added = torch.zeros_like(x)
    if "scale" in tensors:
        added = added + x * tensors["scale"]
    if "weight" in tensors:
        added = added + x @ tensors["weight"]
    if "down" in tensors:
        added = added + x @ (tensors["down"] @ tensors["up"])
    return added + tensors.get("bias", torch.zeros(1))


def _replace_layer(layer: Any, tensors: dict[str, torch.Tensor]) -> None:
    def hook(_: Any, args: Any, kwargs: Any, output: Any) -> Any:
        x = args[0] if args else kwargs["hidden_states"]
        y = x + _affine(x, tensors) if tensors else x
        return (y, *output[1:]) if isinstance(output, tuple) else y

    layer.register_forward_hook(hook, with_kwargs=True)


def _replace_site(model: Any, layer: Any, part: str, tensors: dict[str, torch.Tensor]) -> None:
    where, seen = names(model), {}
    rectified = model.config.model_type == "opt" and part == "mlp"  # a module of two, an activation between
    layer.get_submodule("fc1" if rectified else where[part]).register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(x=args[0] if args else kwargs["hidden_states"], args=args), with_kwargs=True
    )

    def hook(_: Any, args: Any, output: Any) -> Any:
        y = _affine(seen["x"].relu() if rectified else seen["x"], tensors)
        if model.config.model_type == "bloom":  # the residual is added inside
            y = y + seen["args"][1]
        return (y, *output[1:]) if isinstance(output, tuple) else y

    layer.get_submodule(where.get(part + "_update", where[part])).register_forward_hook(hook)
