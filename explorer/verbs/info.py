"""info: what there is, before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from explorer.masks import Mask
from explorer.model import Costs
from explorer.verbs.options import MaskOption
from explorer.verbs.work import Work

if TYPE_CHECKING:
    from explorer.model import CostModel


def info(
    work: Work,
    mask: MaskOption = "none",
    config_only: Annotated[
        bool, typer.Option("--config-only", help="From the config alone: no weights; --model may be a config file.")
    ] = False,
) -> tuple[dict[str, Any], str]:
    """Describe the model: size, precision, KV cache, with and without what the mask turns off; and its sites."""
    answer, cost_model = _look_at_config(work) if config_only else _look_at_model(work)
    off = Mask.parse(mask).checked(answer["layers"])
    answer |= {"mask": str(off), **_describe_costs(cost_model.costs(off, work.settings.window))}
    shown = {name: value for name, value in answer.items() if name != "bytes_at"}
    shown |= {f"weights in {bits} bits": f"{count / 1e9:,.2f} GB" for bits, count in answer["bytes_at"].items()}
    rows = [
        (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else value) for name, value in shown.items()
    ]
    notices = [] if config_only else list(work.loaded.notices)
    return answer | {"sites": cost_model.sites(), "notices": notices}, "\n".join(
        f"{name:<28}{value}" for name, value in rows
    )


def _look_at_model(work: Work) -> tuple[dict[str, Any], CostModel]:
    from explorer.model import count_parameters

    loaded = work.loaded
    about: dict[str, Any] = {
        "model": loaded.spec.model,
        "architecture": type(loaded.model).__name__,
        "layers": loaded.n_layers,
        "dtype": loaded.dtype,
        "quantize": loaded.spec.quantize,
        "device": str(loaded.device),
        "digest": loaded.digest,
    }
    return about, count_parameters(loaded.model, loaded.architecture)


def _look_at_config(work: Work) -> tuple[dict[str, Any], CostModel]:
    from explorer.model import count_parameters_of_config

    s = work.settings
    if s.quantize != "none":
        raise typer.BadParameter("a config alone says nothing of quantized weights", param_hint="--quantize")
    architecture, cost_model = count_parameters_of_config(s.model, s.dtype, work.store, s.cache, s.trust_remote_code)
    return {"model": s.model, "architecture": architecture, "layers": len(cost_model.layers)}, cost_model


def _describe_costs(costs: Costs) -> dict[str, Any]:
    return {
        "parameters": costs.parameters,
        "bytes": costs.bytes,
        "bytes_at": {str(bits): costs.bytes_at(bits) for bits in (16, 8, 4)},
        "kv_bytes_per_token": costs.kv_bytes_per_token,
        "state_bytes_per_sequence": costs.state_bytes_per_sequence,
        "flops_per_token": costs.flops_per_token,
    }
