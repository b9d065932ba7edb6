"""Writing an export against copying the bytes that it keeps, planning one of 140 GB, decoding without a quarter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from safetensors.torch import save_file

from explorer.checkpoints.resolve import DEFAULT_MODEL, Checkpoint, resolve_checkpoint
from explorer.checkpoints.spec import ModelSpec
from explorer.export import export, plan_export
from explorer.export.gguf.llamacpp import is_installed
from explorer.masks.mask import Mask
from explorer.model.loading import load
from explorer.storage.store import Store
from tests.performance.engine import CACHE, Row
from tests.support.large_checkpoints import load_on_meta, write_holes

MASK, LAYERS = Mask.parse("2,a5,m7,9-10"), 28
_QUARTER = Mask.parse("20-27")  # 8 of 30 layers, a fifth of all that is computed: 1.27 times at the most
_CONFIG = {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 16, "num_key_value_heads": 16}


def run() -> Iterator[Row]:
    """Yield (what, measured, goal) rows."""
    checkpoint = resolve_checkpoint(DEFAULT_MODEL, Store(CACHE), CACHE)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        yield _row("SmolLM2-135M", checkpoint, Path(folder))
        source = Path(folder) / "source"
        _generate(source)
        yield _row("4 GB in shards", Checkpoint("generated", source), Path(folder))
        large = write_holes(Path(folder) / "large")
        yield _plan_large(large)
        for what, found in (("140 GB are planned", _peak(large)), ("4 GB are written", _peak(source, Path(folder)))):
            yield f"peak memory while {what}, beyond the libraries", f"{found} MiB", "200 MB"
        yield from _decode(Path(folder))


def _decode(folder: Path) -> Iterator[Row]:
    """Time reading and decoding without a quarter of the layers, in the programs at hand."""
    loaded = load(ModelSpec(DEFAULT_MODEL), Store(CACHE), CACHE)
    corpus = loaded.tokenize("python-docs", 512, 256)
    for format in ("transformers", *(("gguf",) if is_installed() else ())):
        made = export(loaded, _QUARTER, folder / format, corpus, Store(CACHE), format=format, benchmark=True)
        assert made.evidence.benchmark is not None
        for timing in made.evidence.benchmark.timings:
            what = f"`{format}` without 8 of 30 layers, {timing.runtime}: {timing.batch} x {timing.context} tokens"
            for name, (whole, written) in (("read", timing.prefill), ("then decoded", timing.decode)):
                times = f"{written.median / whole.median:.2f} times as fast ({written.median:.1f} tokens a second)"
                yield f"{what} {name}", times, "1.22" if name == "then decoded" else ""


def _plan_large(folder: Path) -> Row:
    """Time planning of a checkpoint of 140 GB, by its headers."""
    loaded, seconds = load_on_meta(folder), []
    for _ in range(3):
        start = time.perf_counter()
        plan_export(loaded, MASK, "deci")
        seconds.append(time.perf_counter() - start)
    return "export of 140 GB in 30 shards: planning, from headers", f"{max(seconds):.2f} s", "2 s"


def _row(name: str, checkpoint: Checkpoint, folder: Path) -> Row:
    ratios, seconds, size = [], [], 0
    for _ in range(3):
        out, copy = folder / "out", folder / "copy"
        out.mkdir()
        copy.mkdir()
        plan = plan_export(load_on_meta(checkpoint.folder), MASK, "deci")
        start = time.perf_counter()
        plan.write(out, lambda size: None)
        seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        for path in out.glob("*.safetensors"):
            shutil.copyfile(path, copy / path.name)
            with (copy / path.name).open("rb+") as file:
                os.fsync(file.fileno())
        ratios.append(seconds[-1] / (time.perf_counter() - start))
        size = plan.bytes
        shutil.rmtree(out)
        shutil.rmtree(copy)
    what = f"export of {name}: writing {size / 1e9:.2f} GB / copying them, both with fsync"
    return what, f"{median(ratios):.2f} ({median(seconds):.1f} s)", "1.2"


def _generate(folder: Path) -> None:
    """Write a Llama of 4 GB in bfloat16, in files of four layers."""
    folder.mkdir()
    width, inner, files = _CONFIG["hidden_size"], _CONFIG["intermediate_size"], {}
    shapes = {f"self_attn.{name}_proj": (width, width) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
    shapes |= {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
    for first in range(0, LAYERS, 4):
        tensors = {
            f"model.layers.{layer}.{name}.weight": torch.randint(0, 2**15, shape, dtype=torch.int16).view(
                torch.bfloat16
            )
            for layer in range(first, first + 4)
            for name, shape in shapes.items()
        }
        if first == 0:
            tensors |= {"model.embed_tokens.weight": torch.zeros(32000, width, dtype=torch.bfloat16)}
            tensors |= {"model.norm.weight": torch.ones(width, dtype=torch.bfloat16)}
        name = f"model-{first:05}.safetensors"
        files |= dict.fromkeys(tensors, name)
        save_file(tensors, folder / name, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    config = {**_CONFIG, "model_type": "llama", "num_hidden_layers": LAYERS, "tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 32000, "hidden_act": "silu"}))


_PEAK = """
import re
from tests.performance.export import *
loaded, *out = load_on_meta(Path(sys.argv[1])), *map(Path, sys.argv[2:])
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
before = peak()
plan = plan_export(loaded, MASK, "deci")
for folder in out:
    plan.write(folder, lambda size: None)
print((peak() - before) // 1024)
"""


def _peak(source: Path, folder: Path | None = None) -> str:
    """Return MiB that planning an export, and writing it into a folder, takes beside the model."""
    out = [folder / "peak"] if folder else []
    for each in out:
        each.mkdir()
    words = [sys.executable, "-c", _PEAK, str(source), *map(str, out)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
