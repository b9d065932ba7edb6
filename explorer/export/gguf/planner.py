"""LoadedModel, Mask, Changes -> what a GGUF export would write."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from explorer.errors import ExportError
from explorer.export.changes import Changes
from explorer.export.export_plan import ExportPlan, Reload
from explorer.export.formats import Format, only_whole_layers
from explorer.export.gguf.change import LOSSY, change, find_loss, tell_types
from explorer.export.gguf.convert import check_converts, convert, requantize
from explorer.export.gguf.llamacpp import measure_perplexity
from explorer.export.gguf.model import GgufModel, read_gguf, write_gguf
from explorer.export.gguf.prune import prune
from explorer.export.gguf.reload import FILE, reads_natively, reload_natively, reload_plainly, reload_wholly
from explorer.export.gguf.rope import NAME as ROPE
from explorer.export.merge import Merge
from explorer.export.tensor_layout import Layout
from explorer.masks import Mask
from explorer.model import LoadedModel

#: The dtype of a checkpoint that a type holds exactly.
_STORED = {"f16": "float16", "bf16": "bfloat16"}


def plan_gguf(loaded: LoadedModel, mask: Mask, changes: Changes, target: Format) -> ExportPlan:
    """Decide what a GGUF file would hold, reading headers only.

    Raises ExportError: this model, mask or change cannot be written as GGUF.
    """
    if loaded.spec.quantize != "none":
        raise ExportError(
            "A GGUF file cannot be compared with this model",
            f"it is quantized to {loaded.spec.quantize}",
            "Load it whole",
        )
    source, blocks, config = loaded.checkpoint.dequantized_from, target.blocks, loaded.checkpoint.config
    stored = config.get("dtype") or config.get("torch_dtype")
    if source is not None:
        model = read_gguf(source)
        before = requantize(model, blocks) if blocks else model
        whole, merge = change(loaded, model, before, changes.weights)
        loss, notes = find_loss(loaded.dtype, before, whole), tell_types(before, whole)
    else:
        check_converts(loaded)
        exact = [kind for kind, dtype in _STORED.items() if dtype == stored]
        blocks = blocks or next(iter(exact), "f16")
        merge = Merge(changes.weights, loaded.model)
        whole = convert(loaded, blocks, merge.take)
        merge.check()
        loss, notes = (LOSSY[blocks] if changes.weights and _STORED.get(blocks) != loaded.dtype else 0.0), ()
    pruned = prune(whole, mask)
    plainly = not only_whole_layers(mask) or any(tensor.name == ROPE for tensor in pruned.tensors)
    layout = Layout(loaded.architecture, mask, loaded.n_layers, drops_sites=True)
    merge.gone += [name for name in changes.weights if layout.place(name) is None]
    return ExportPlan(
        target,
        layout,
        changes,
        pruned.size,
        partial(_write, pruned),
        *_choose_reader(pruned, plainly),
        max(loss, 0.0 if not blocks or (blocks in _STORED and _STORED[blocks] == stored) else LOSSY[blocks]),
        (*merge.notes, *notes),
        lambda folder, windows: measure_perplexity(folder / FILE, windows),
    )


def _choose_reader(pruned: GgufModel, plainly: bool) -> tuple[Reload, str]:
    """Return what reads the file again, and its name."""
    if plainly and pruned.architecture in ("llama", "deci"):
        return reload_plainly, "an independent reading, dequantized by the gguf package"
    if reads_natively(pruned):
        return reload_natively, "transformers' GGUF reader"
    return reload_wholly, "a reading that uses every key and tensor, dequantized by the gguf package"


def _write(model: GgufModel, folder: Path, report: Callable[[int], None]) -> None:
    write_gguf(model, folder / FILE, report)
