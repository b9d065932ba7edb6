"""A GGUF file -> a folder with config, tokenizer and float32 safetensors, written tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from explorer.checkpoints.gguf.config import make_config
from explorer.checkpoints.gguf.file import GgufFile, Numbers, Stored, read_file, refuse
from explorer.checkpoints.gguf.names import OF_ROPE, convert, spread
from explorer.checkpoints.gguf.tokens import write_tokenizer
from explorer.progress import Progress, unreported

_SHARD = 2 << 30  # bytes


def write_folder(path: Path, folder: Path, progress: Progress = unreported) -> None:
    """Write a file, or the split file that it is a part of, into an empty folder.

    Raises ModelError: the file is damaged, or has a key or a tensor that could not be used; it names which.
    """
    file = read_file(path)
    config = make_config(file)
    progress(0, len(file.tensors) + 1, f"Reading the tokenizer of {path.name}")
    write_tokenizer(file, folder)
    shapes = _write_config(config, folder)
    placed = _place(file, config, shapes)
    _write_tensors(file, config, placed, folder, progress)


def _write_config(config: dict[str, Any], folder: Path) -> dict[str, tuple[int, ...]]:
    """Write config.json; return the shapes that a checkpoint's tensors have, by name, a tied head left out."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    fields = dict(config)
    made = AutoConfig.for_model(fields.pop("model_type"), **fields, dtype="float32")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(made)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if config["tie_word_embeddings"]:
        shapes.pop("lm_head.weight", None)
    return dict(_split_experts(shapes))


def _split_experts(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield shapes as checkpoints have them: each expert's projections apart, which a model in memory has in one."""
    for name, shape in shapes.items():
        stem, _, part = name.rpartition(".experts.")
        if part == "gate_up_proj":
            half = (shape[1] // 2, shape[2])
            for expert in range(shape[0]):
                yield f"{stem}.experts.{expert}.gate_proj.weight", half
                yield f"{stem}.experts.{expert}.up_proj.weight", half
        elif part == "down_proj":
            for expert in range(shape[0]):
                yield f"{stem}.experts.{expert}.down_proj.weight", shape[1:]
        else:
            yield name, shape


def _place(file: GgufFile, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Check that each tensor has a place and each place a tensor; return the places of biases that the file lacks.

    A bias that a file lacks is zero: so llama.cpp reads it.
    """
    open_places = dict(shapes)
    for name in file.tensors:
        if name in OF_ROPE:
            continue
        found = convert(file.architecture, config, name)
        if found is None or not all(place in open_places for place in found[0]):
            refuse(file.path, f"the tensor {name} has no place in the architecture {file.architecture!r}")
        _check_shape(file, file.tensors[name], [open_places.pop(place) for place in found[0]])
    if missing := sorted(place for place in open_places if not place.endswith(".bias")):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        refuse(file.path, f"it has no tensor for {missing[0]}{more}", "Copy it again: it is not whole")
    return open_places


def _check_shape(file: GgufFile, tensor: Stored, places: list[tuple[int, ...]]) -> None:
    """See that a tensor has the numbers of its place, or of all its places; some are turned, or get a dimension."""
    wanted = places[0] if len(places) == 1 else (len(places), *places[0])
    if sorted(n for n in tensor.shape if n != 1) != sorted(n for n in wanted if n != 1):
        refuse(file.path, f"{tensor.name} is {tensor.shape}, and {wanted} by the file's keys")


def _write_tensors(
    file: GgufFile, config: dict[str, Any], zeros: dict[str, tuple[int, ...]], folder: Path, progress: Progress
) -> None:
    """Write shards of at most 2 GiB, or of one tensor, and their index."""
    import torch
    from safetensors.torch import save_file

    shards: list[dict[str, int]] = []
    held: dict[str, torch.Tensor] = {}

    def flush() -> None:
        save_file(held, folder / _shard(len(shards)), {"format": "pt"})
        shards.append({name: tensor.nbytes for name, tensor in held.items()})
        held.clear()

    for name, shape in zeros.items():
        held[name] = torch.zeros(shape)
    for number, tensor in enumerate(file.tensors.values()):
        progress(1 + number, len(file.tensors) + 1, f"Dequantizing {file.path.name}")
        if tensor.name in OF_ROPE:
            continue
        for name, data in _read(file, config, tensor):
            if held and sum(t.nbytes for t in held.values()) + data.nbytes > _SHARD:
                flush()
            held[name] = torch.from_numpy(data)
    flush()
    _finish(folder, shards)


def _read(file: GgufFile, config: dict[str, Any], tensor: Stored) -> Iterator[tuple[str, Numbers]]:
    found = convert(file.architecture, config, tensor.name)
    assert found is not None, tensor.name
    names, form = found
    yield from spread(names, form(tensor.read()))


def _shard(number: int) -> str:
    return f"model-{number + 1:05}.safetensors"


def _finish(folder: Path, shards: list[dict[str, int]]) -> None:
    """Name the shards as transformers looks for them."""
    if len(shards) == 1:
        (folder / _shard(0)).rename(folder / "model.safetensors")
        return
    names: dict[str, str] = {}
    for number, shard in enumerate(shards):
        name = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        (folder / _shard(number)).rename(folder / name)
        names |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": sum(sum(shard.values()) for shard in shards)}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
