"""A step's gradients are plain autograd's on a plainly pruned transformers model, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from transformers.pytorch_utils import Conv1D

from explorer.healing.lora import adapt, list_maps
from explorer.healing.losses import find_divergence, find_state_loss, find_top_divergence
from explorer.healing.objective import predict
from explorer.healing.student import Student
from explorer.healing.teacher import find_teacher, pick_top
from explorer.healing.windows import deal_out
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel
from tests.support import brute_force
from tests.support.settings import make_setting
from tests.support.tiny_models import WINDOW, Tiny, load_folder

FEW = ["llama", "gpt2", "gemma2", "opt", "falcon_parallel", "gpt_neox_parallel", "granite"]
MASK = Mask.parse("1,m3")
SCALE, RANK = 2.0, 3


def double(tiny: Tiny, family: str) -> LoadedModel:
    loaded = load_folder(tiny.folder(family))
    loaded.model.double()
    loaded.batch_shape.tokens = 4 * WINDOW
    return loaded


def plain(folder: Path, names: list[str], values: dict[str, torch.Tensor], turned: bool) -> Any:
    """A checkpoint with what is off zeroed, and peft's adapters beside the maps named."""
    model = brute_force.zeroed(folder, MASK).double()
    config = LoraConfig(r=RANK, lora_alpha=RANK * SCALE, target_modules=names, fan_in_fan_out=turned)  # type: ignore[arg-type]
    inject_adapter_in_model(config, model)
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).data = value.clone()
    return model


def find_loss(kind: str, logits: torch.Tensor, teacher: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Next-token loss and divergence, written out."""
    found, wanted = (each[:, :-1].log_softmax(-1) for each in (logits, teacher))
    nll = -found.gather(-1, ids[:, 1:, None]).mean()
    divergence = (wanted.exp() * (wanted - found)).sum(-1).mean()
    return {"lm": nll, "kl": divergence, "both": nll + divergence}[kind]


@pytest.mark.parametrize("kind", ["lm", "both"])
@pytest.mark.parametrize("name", FEW)
def test_gradients_are_those_of_plain_peft_on_a_plainly_pruned_model(tiny: Tiny, name: str, kind: str) -> None:
    loaded = double(tiny, name)
    setting = make_setting(loaded, MASK, "lora")
    maps = list_maps(setting, "all")
    twin = adapt(setting, maps, RANK, SCALE, 0)
    ids = torch.from_numpy(setting.run.ids)
    halves = [f"{twin.layers}.{layer}.{path}.lora_{half}.default.weight" for layer, path in maps for half in ("A", "B")]
    teacher = find_teacher(setting, deal_out(setting.run.ids, 4, 0), {"loss": kind, "teacher": "all"})
    student = Student(twin.model, halves, predict(loaded, twin, ids, kind, teacher))
    with torch.no_grad():
        for value in student.values:
            value += 0.1 * torch.randn(value.shape, dtype=value.dtype, generator=torch.Generator().manual_seed(1))
    found = student(torch.arange(3))["loss"]
    found.backward()
    assert found.dtype == torch.float64

    turned = any(isinstance(loaded.wrappers.layers[layer].get_submodule(path), Conv1D) for layer, path in maps)
    targets = [f"{twin.layers}.{layer}.{path}" for layer, path in maps]
    values = {name: value.detach() for name, value in zip(student.names, student.values, strict=True)}
    model = plain(tiny.folder(name), targets, values, turned)
    wanted = brute_force.plain(tiny.folder(name)).double()(ids[:3], use_cache=False).logits.detach()
    expected = find_loss(kind, model(ids[:3], use_cache=False).logits, wanted, ids[:3])
    expected.backward()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    for half, value in zip(student.names, student.values, strict=True):
        torch.testing.assert_close(value.grad, model.get_parameter(half).grad, rtol=1e-8, atol=1e-10)
    assert any(value.grad.abs().max() > 1e-6 for value in student.values if value.grad is not None)


@pytest.mark.parametrize("top", [1, 3, 10])
def test_likeliest_tokens_and_all_others_as_one_are_told_apart(top: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (3 * torch.randn(2, 5, 11, generator=generator, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    each = []
    for q, p in zip(logits[:, :-1].flatten(0, 1), teacher[:, :-1].flatten(0, 1), strict=True):
        p, q = p.exp() / p.exp().sum(), q.exp() / q.exp().sum()
        first = sorted(range(11), key=lambda token: -float(p[token]))[:top]
        last = [token for token in range(11) if token not in first]
        pairs = [(p[token], q[token]) for token in first] + [(p[last].sum(), q[last].sum())]
        each.append(sum(a * (a / b).log() for a, b in pairs))
    expected = torch.stack(each).mean()
    log_probs, tokens = pick_top(teacher, top)
    found = find_top_divergence(logits, log_probs, tokens.long())
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (found, expected)))
    whole = find_divergence(logits, teacher)
    assert found < whole if top < 10 else torch.isclose(found, whole)


def test_the_loss_of_states_is_relative_distance_and_cosine() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2, 5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    rows = [
        ((a - b) @ (a - b)) / (b @ b) + 1 - (a @ b) / (a.norm() * b.norm())
        for a, b in zip(x.view(-1, 7), y.view(-1, 7), strict=True)
    ]
    torch.testing.assert_close(find_state_loss(x, y), torch.stack(rows).mean())
    assert float(find_state_loss(x, x)) == pytest.approx(0, abs=1e-12)
