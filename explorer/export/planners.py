"""LoadedModel, Variant, format -> what an export would write, from headers only."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from explorer.deltas import Variant
from explorer.errors import ExportError
from explorer.export import deci, mergekit, remote_code, skipping
from explorer.export.adapter import plan_adapter
from explorer.export.changes import Changes, gather_changes
from explorer.export.config_slicing import slice_config
from explorer.export.describe.provenance import find_provenance
from explorer.export.draft import plan_draft
from explorer.export.export_plan import ExportPlan
from explorer.export.formats import FORMATS, Format, find_format, only_whole_layers
from explorer.export.merge import Merge
from explorer.export.rehearsal import rehearse
from explorer.export.safetensors import Shard, find_common_dtype, plan_shards, write_shards
from explorer.export.staging import CARRIED
from explorer.export.stand_in_layout import StandInLayout, has_stand_ins, lay_out_stand_ins
from explorer.export.stored_dtype import check_stored_dtype, declare_dtype, find_loss, find_stored_dtype
from explorer.export.tensor_layout import Layout
from explorer.export.verify import reload_checkpoint
from explorer.extras import require
from explorer.masks import Mask
from explorer.model import (
    LoadedModel,
    find_auto_class,
    find_base_type,
    find_naming,
    has_own_head,
    predicts_further,
)


def plan_export(loaded: LoadedModel, variant: Mask | Variant, format: str = "auto", dtype: str = "auto") -> ExportPlan:
    """Decide what becomes of every tensor, reading headers only.

    What a checkpoint lacks, for it is a pruned one, goes on lacking.

    Args:
        loaded: the model.
        variant: what is written of it.
        format: a name of `formats.FORMATS`, or `auto`.
        dtype: that weights are written in, or `auto`, see `find_stored_dtype`.

    Raises:
        MaskError: the mask names a layer that the model lacks, or a site where only whole layers can go.
        ExportError: no layer is left, a delta does not fit the model, or the variant cannot be written exactly in this
            format.
    """
    if format == "adapter":
        return plan_adapter(loaded, variant, partial(plan_export, dtype=dtype))
    if format.startswith("draft"):
        return plan_draft(loaded, variant, find_format(format, variant.mask).name, partial(plan_export, dtype=dtype))
    loaded.wrappers.check_sites(variant.mask)
    lacking = loaded.absent - loaded.never_there
    mask = loaded.completed(variant.mask.checked(loaded.n_layers) | lacking)
    changes = gather_changes(loaded, variant)
    pruned = bool(lacking) or has_stand_ins(loaded)
    target = _find_own_format(loaded, format, mask) if pruned else find_format(format, mask, bool(changes.stand_ins))
    standing = {site.layer for place in changes.stand_ins if len(place.sites) == 1 for site in place.sites}
    if len(mask.whole_layers - standing) == loaded.n_layers:
        raise ExportError("Nothing is left to export", "every layer is off", "Keep at least one layer")
    read = sorted(mask.whole_layers & {*(loaded.architecture.hands_on or ())})
    if read and target.name != "recipe":
        raise ExportError(
            "A layer that others read cannot be left out",
            f"later layers read keys and values of layer {read[0]}",
            f"Keep layer {read[0]}",
        )
    check_stored_dtype(dtype, target)
    target = replace(target, dtype=dtype, auto_class=find_auto_class(loaded.model.config).__name__)
    return _PLANNERS[target.kind](loaded, mask, changes, target)


def _find_own_format(loaded: LoadedModel, name: str, mask: Mask) -> Format:
    """Return a target by name for a checkpoint that an export wrote: one that can lack attention and MLPs, too."""
    own = (
        ("deci",)
        if loaded.config.model_type == "nemotron-nas"
        else ("pruned-remote-code",)
        if has_stand_ins(loaded)
        else ("pruned-remote-code", "deci")
    )
    target = find_format(own[0] if name == "auto" else name, mask)
    if target.name not in (*own, "recipe"):
        found = f"it lacks {loaded.absent}" if loaded.absent else "something stands in for what it lacks"
        raise ExportError("The model is a pruned one", found, "Use --format " + " or ".join((*own, "recipe")))
    return target


def _plan_transformers(loaded: LoadedModel, mask: Mask, changes: Changes, target: Format) -> ExportPlan:
    changes.refuse_stand_ins(target)
    if target.name == "transformers" and not only_whole_layers(mask):
        raise ExportError(
            "The model's own architecture has attention and MLP in every layer",
            f"{mask} turns off only one of them somewhere",
            "Use --format transformers-zeroed, deci or pruned-remote-code",
        )
    layout = _lay_out(loaded, mask)
    return _plan_checkpoint(loaded, target, layout, changes, _make_config(loaded, layout), {})


def _lay_out(loaded: LoadedModel, mask: Mask, **options: Any) -> Layout:
    further = frozenset(filter(predicts_further, loaded.unused))
    naming = find_naming(loaded.model)
    return Layout(loaded.architecture, mask, loaded.n_layers, naming=naming, further=further, **options)


def _make_config(loaded: LoadedModel, layout: Layout) -> dict[str, Any]:
    """Return config.json of what is written. Raises ExportError if it would make other layers than those that stay."""
    config = copy.deepcopy(loaded.checkpoint.config)
    if getattr(loaded.config, "tie_word_embeddings", False) and has_own_head(loaded.model):
        _untie(config)
    if len(layout.kept) < loaded.n_layers:
        config = slice_config(config, loaded.model.config, layout.kept, layout.move)
        layout.cuts = rehearse(loaded, config, layout)
    return config


def _untie(config: dict[str, Any]) -> None:
    """Have a config say that the head is not the embedding: whoever believes the flag would drop it."""
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            part["tie_word_embeddings"] = False


def _plan_deci(loaded: LoadedModel, mask: Mask, changes: Changes, target: Format) -> ExportPlan:
    changes.refuse_stand_ins(target)
    deci.check_maps(loaded)
    layout = _lay_out(loaded, mask, drops_sites=True, keeps_first=True, norms=deci.NORMS)
    config, code = deci.dress_config(_make_config(loaded, layout), loaded, layout)
    biased = find_base_type(loaded.config.model_type) == "qwen2"
    refusing = deci.find_refusing(loaded.config)
    target = replace(target, refusing=tuple(refusing))
    planned = _plan_checkpoint(loaded, target, layout, changes, config, code, adds_output_bias=biased)
    notes = (f"{program} does not load it: {why}." for program, why in refusing.items())
    return replace(planned, notes=(*planned.notes, *notes))


def _plan_remote(loaded: LoadedModel, mask: Mask, changes: Changes, target: Format) -> ExportPlan:
    standing = lay_out_stand_ins(loaded, mask, changes)
    more = {"stays": standing.stays, "site_norms": standing.site_norms, "moves": standing.moves}
    layout = _lay_out(loaded, mask, drops_sites=True, **more)
    config, code = remote_code.dress_config(_make_config(loaded, layout), loaded, layout, standing)
    return _plan_checkpoint(loaded, target, layout, changes, config, code, standing=standing)


def _plan_skipping(loaded: LoadedModel, mask: Mask, changes: Changes, target: Format) -> ExportPlan:
    changes.refuse_stand_ins(target)
    skipping.check_obeyed()
    layout = _lay_out(loaded, mask, drops_sites=True)
    config = skipping.dress_config(_make_config(loaded, layout), layout)
    return _plan_checkpoint(loaded, target, layout, changes, config, {})


def _plan_checkpoint(
    loaded: LoadedModel,
    target: Format,
    layout: Layout,
    changes: Changes,
    config: dict[str, Any],
    code: dict[str, str],
    adds_output_bias: bool = False,
    standing: StandInLayout | None = None,
) -> ExportPlan:
    if layout.zero_sites and "quantization_config" in loaded.checkpoint.config:
        raise ExportError(
            "Quantized weights cannot be zeroed", "the checkpoint is quantized", "Export from the 16-bit original"
        )
    changes.refuse_beside()
    merge = Merge(changes.weights, loaded.model)
    store = find_stored_dtype(loaded, layout.naming, target.dtype)
    shards = plan_shards(loaded.checkpoint.weights, layout.place, merge.take, store, layout.cut)
    if changes.untied:
        _untie(config)
        _add_head(shards, changes, merge)
    layout.check()
    merge.check()
    if adds_output_bias:
        shards = [shard.with_zeros("q_proj.bias", "o_proj.bias") for shard in shards]
    if standing is not None and standing.tensors:
        shards[-1] = shards[-1].with_tensors(standing.tensors)
    if any(tensor.dtype != tensor.stored for shard in shards for tensor in shard.tensors if tensor.stored):
        declare_dtype(config, find_common_dtype(shards))
    return ExportPlan(
        target,
        layout,
        changes,
        sum(shard.size for shard in shards),
        partial(_write_checkpoint, loaded.checkpoint.folder, shards, config, code),
        partial(reload_checkpoint, own_code=bool(code)),
        "transformers" + ", with the code in the folder" * bool(code),
        find_loss(loaded, target.dtype),
        notes=merge.notes,
    )


def _add_head(shards: list[Shard], changes: Changes, merge: Merge) -> None:
    """Have the files hold the head that is the embedding no longer, where none of their tensors is it."""
    if changes.untied not in merge.met:
        merge.met.add(changes.untied)
        shards[-1] = shards[-1].with_tensors(changes.own_head)


def _write_checkpoint(
    source: Path,
    shards: list[Shard],
    config: dict[str, Any],
    code: dict[str, str],
    folder: Path,
    report: Callable[[int], None],
) -> None:
    carry_along(source, folder)
    for name, text in {**code, "config.json": json.dumps(config, indent=2) + "\n"}.items():
        (folder / name).write_text(text, encoding="utf-8")
    write_shards(shards, folder, report)


def carry_along(source: Path, folder: Path) -> None:
    """Copy tokenizer, generation config, code and licence."""
    for pattern in CARRIED:
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)


def _plan_gguf(loaded: LoadedModel, mask: Mask, changes: Changes, target: Format) -> ExportPlan:
    require("gguf")
    if loaded.spec.stream:
        raise ExportError(
            "A streamed model is not written as GGUF", "the proof needs the whole model in memory",
            "Write safetensors, or load it without --stream",
        )  # fmt: skip
    from explorer.export.gguf import plan_gguf

    changes.refuse_stand_ins(target)
    changes.refuse_untied(target)
    return plan_gguf(loaded, mask, changes, target)


def _plan_mergekit(loaded: LoadedModel, mask: Mask, changes: Changes, target: Format) -> ExportPlan:
    changes.refuse(target)
    _plan_transformers(loaded, mask, changes, FORMATS["transformers-zeroed"])  # refuses what it cannot hold either
    layout = _lay_out(loaded, mask)
    config = _make_config(loaded, layout)
    source = find_provenance(loaded.checkpoint).base or str(loaded.checkpoint.folder)
    text = mergekit.make_yaml(loaded, layout, source, config)

    def write(folder: Path, report: Callable[[int], None]) -> None:
        (folder / mergekit.FILE).write_text(text, encoding="utf-8")

    return ExportPlan(target, layout, changes, 0, write)


def _plan_recipe(loaded: LoadedModel, mask: Mask, changes: Changes, target: Format) -> ExportPlan:
    layout = Layout(loaded.architecture, mask, loaded.n_layers, drops_sites=True)
    return ExportPlan(target, layout, changes, 0, lambda folder, report: None)


_PLANNERS: dict[str, Callable[[LoadedModel, Mask, Changes, Format], ExportPlan]] = {
    "transformers": _plan_transformers,
    "transformers-zeroed": _plan_transformers,
    "deci": _plan_deci,
    "pruned-remote-code": _plan_remote,
    "transformers-skip": _plan_skipping,
    "gguf": _plan_gguf,
    "mergekit": _plan_mergekit,
    "recipe": _plan_recipe,
}
