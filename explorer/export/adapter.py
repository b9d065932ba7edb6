"""A variant whose last delta is a LoRA -> that as a PEFT folder, over the checkpoint of the variant without it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from explorer.deltas import Delta, LowRankUpdate, Variant
from explorer.errors import ExportError
from explorer.export.changes import gather_changes
from explorer.export.export_plan import ExportPlan
from explorer.export.formats import FORMATS
from explorer.extras import require
from explorer.masks import Mask
from explorer.model import LoadedModel

_UNITS = 64  # in the last place: what an adapter adds is summed apart, and not with the weights

_TAKEN = ("dtype", "auto_class", "cache")  # from the format of the checkpoint

#: The folder of it in that of the checkpoint.
FOLDER = "adapter"


@dataclass(frozen=True)
class _Adapter:
    """A LoRA over a checkpoint.

    Args:
        tensors: by their names for peft.
        rank: of every pair.
        targets: modules of the checkpoint.
        turned: the modules have their weights as (inputs, outputs).
    """

    tensors: dict[str, Float[Tensor, "rows columns"]]
    rank: int
    targets: list[str]
    turned: bool

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def write(self, folder: Path) -> None:
        """Write it as peft does, the scale left out for it is in the tensors."""
        from peft import LoraConfig

        config = LoraConfig(r=self.rank, lora_alpha=self.rank, fan_in_fan_out=self.turned, task_type="CAUSAL_LM")
        named = config.to_dict() | {"target_modules": self.targets, "inference_mode": True}
        folder.mkdir()
        (folder / "adapter_config.json").write_text(
            json.dumps(named, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
        save_file(self.tensors, folder / "adapter_model.safetensors", {"format": "pt"})


def plan_adapter(
    loaded: LoadedModel, variant: Mask | Variant, plan: Callable[[LoadedModel, Variant], ExportPlan]
) -> ExportPlan:
    """Decide what is written: the checkpoint of all but the last delta, and that beside it.

    Args:
        loaded: the model.
        variant: what is off, and changed.
        plan: plans the checkpoint.

    Raises:
        MissingExtra: peft is not installed.
        ExportError: the last delta is no LoRA, or see `plan_export`.
    """
    require("peft")
    *below, last = variant.deltas or (None,)
    if last is None or last.stand_ins or not all(isinstance(each, LowRankUpdate) for each in _list_changes(last)):
        found = "nothing is changed" if last is None else str(last.modifier)
        raise ExportError("Only low-rank adapters are written as such", found, "Use --modify lora, or --format auto")
    changes = gather_changes(loaded, variant)
    planned = plan(loaded, Variant(variant.mask, tuple(each for each in below if each is not None)))
    adapter = _gather(loaded, last, planned.layout.kept)

    def write(folder: Path, report: Callable[[int], None]) -> None:
        planned.write(folder, report)
        adapter.write(folder / FOLDER)
        report(adapter.bytes)

    def reload(loaded: LoadedModel, folder: Path) -> Any:
        from peft import PeftModel

        assert planned.reload is not None
        return PeftModel.from_pretrained(planned.reload(loaded, folder), str(folder / FOLDER)).base_model.model

    return replace(
        planned,
        format=replace(FORMATS["adapter"], **{name: getattr(planned.format, name) for name in _TAKEN}),
        changes=changes,
        bytes=planned.bytes + adapter.bytes,
        write=write,
        reload=reload,
        units=_UNITS,
        loader=f"{planned.loader} and peft",
        notes=(*planned.notes, *_tell_base(loaded)),
    )


def _tell_base(loaded: LoadedModel) -> list[str]:
    """Say what else than the files' weights an adapter was trained over."""
    if loaded.spec.quantize == "none":
        return []
    words = f"The adapter was trained and measured over the checkpoint loaded in {loaded.precision}"
    return [f"{words}: over the numbers of its files it gives others."]


def _list_changes(delta: Delta) -> list[Any]:
    return [change for named in delta.weights.values() for change in named.values()]


def _gather(loaded: LoadedModel, delta: Delta, kept: list[int]) -> _Adapter:
    """Return a delta as peft has it, its layers numbered as in what is written."""
    tensors: dict[str, Tensor] = {}
    targets, turned = [], False
    for layer, named in delta.weights.items():
        for name, change in named.items():
            assert isinstance(change, LowRankUpdate)
            module = name.removesuffix(".weight")
            path = f"{loaded.architecture.layers}.{kept.index(layer)}.{module}"
            down, up = change.right, change.left
            if isinstance(loaded.wrappers.layers[layer].get_submodule(module), Conv1D):
                down, up, turned = change.left.T, change.right.T, True
            tensors[f"base_model.model.{path}.lora_A.weight"] = down.contiguous()
            tensors[f"base_model.model.{path}.lora_B.weight"] = up.contiguous()
            targets.append(path)
    ranks = {change.left.shape[-1] for change in _list_changes(delta)}
    if len(ranks) != 1:
        raise ExportError("An adapter has one rank", ", ".join(map(str, sorted(ranks))), "Use --format auto")
    return _Adapter(tensors, ranks.pop(), targets, turned)
