"""Llamas of any size with random weights, written layer by layer; a process that works on one and weighs itself."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from explorer.checkpoints.resolve import Checkpoint
from explorer.checkpoints.spec import ModelSpec
from explorer.model.architecture import find_architecture
from explorer.model.batch_shape import BatchShape
from explorer.model.loading import LoadedModel
from explorer.model.wrappers import ModelWrappers
from tests.support.tiny_models import REPOSITORY, VOCABULARY, make_tokenizer


def write_llama(folder: Path, layers: int, width: int, inner: int, dtype: torch.dtype, **more: Any) -> Path:
    """Write a Llama, each layer in a file of its own."""
    folder.mkdir(parents=True)
    draw, index = torch.Generator().manual_seed(0), dict[str, str]()
    vocabulary = more.pop("vocabulary", VOCABULARY)

    def write(file: str, shapes: dict[str, tuple[int, ...]]) -> None:
        tensors = {
            name: (torch.randn(shape, generator=draw) * (shape[-1] ** -0.5) + (len(shape) == 1)).to(dtype)
            for name, shape in shapes.items()
        }
        save_file(tensors, folder / file, {"format": "pt"})
        index.update(dict.fromkeys(tensors, file))

    embedding = {"model.embed_tokens.weight": (vocabulary, width), "lm_head.weight": (vocabulary, width)}
    write("outside.safetensors", {**embedding, "model.norm.weight": (width,)})
    shapes: dict[str, tuple[int, ...]] = {f"self_attn.{name}_proj": (width, width) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
    shapes |= {"input_layernorm": (width,), "post_attention_layernorm": (width,)}
    for layer in range(layers):
        names = {f"model.layers.{layer}.{name}.weight": shape for name, shape in shapes.items()}
        write(f"layer-{layer:05}.safetensors", names)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, tie_word_embeddings=False, dtype=dtype,
        bos_token_id=256, eos_token_id=257, architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    config.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


_WORK = """
import json, re, sys, threading, time
from pathlib import Path
import torch
from explorer.checkpoints.spec import ModelSpec
from explorer.evaluation.perplexity import score
from explorer.export import export
from explorer.masks.mask import Mask
from explorer.measures.similarity import measure_similarity
from explorer.model.loading import load, quieten_libraries
from explorer.storage.store import Store

quieten_libraries()
torch.set_num_threads(int(sys.argv[7]))

def read(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def work(folder, out, stream, tokens, windows, dtype):
    loaded = load(ModelSpec(str(folder), dtype, "cpu", stream=stream), Store(None), out)
    loaded.batch_shape.tokens = tokens
    corpus = loaded.tokenize("python-docs", windows * 32, 32)
    found = {"influence": measure_similarity(loaded, corpus, Store(out / "cache")).influence["mlp"].tolist()}
    files = loaded.wrappers.stream.files if stream else None
    before, start = files.bytes_read if files else 0, time.perf_counter()
    masks = [Mask(frozenset({site})) for site in loaded.sites]
    found["nll"] = [each.nll.tolist() for each in score(loaded, corpus, masks, Store(out / "cache"))]
    found["seconds"] = time.perf_counter() - start
    found["bytes_read"] = files.bytes_read - before if files else 0
    found["weights"] = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if stream:
        done = export(loaded, Mask.parse("1"), out / "pruned", corpus, Store(out / "cache"))
        found["proof"] = [done.verification.perplexity_masked, done.verification.perplexity_reloaded]
    return found

peak = {"RssAnon": 0}
def watch():
    while not over.wait(0.005):
        peak["RssAnon"] = max(peak["RssAnon"], read("RssAnon"))

stream = sys.argv[4] == "stream"
work(Path(sys.argv[2]), Path(sys.argv[3]) / "small", stream, 32, 2, sys.argv[6])  # imports what there is to import
over, base = threading.Event(), {field: read(field) for field in ("RssAnon", "VmRSS")}
Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
watcher = threading.Thread(target=watch)
watcher.start()
found = work(Path(sys.argv[1]), Path(sys.argv[3]) / "large", stream, int(sys.argv[5]), 4, sys.argv[6])
over.set()
watcher.join()
found["private_bytes"] = peak["RssAnon"] - base["RssAnon"]
found["resident_bytes"] = read("VmHWM") - base["VmRSS"]
print(json.dumps(found))
"""


def work_apart(
    folder: Path, small: Path, out: Path, stream: bool, tokens: int = 128, dtype: str = "float32", threads: int = 1
) -> dict[str, Any]:
    """Measure, score all single sites, and export in a process of its own, after the same with a small model.

    Returns what was found, `bytes_read` while scoring, and how much the process grew beyond its size after the small
    model: `private_bytes`, sampled, and `resident_bytes`, the kernel's own peak, in which files of states count.
    """
    command = [sys.executable, "-c", _WORK, *map(str, (folder, small, out)), "stream" if stream else "whole"]
    done = subprocess.run([*command, str(tokens), dtype, str(threads)], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


#: A Llama of 70 billion parameters in bfloat16.
_70B: dict[str, Any] = {
    "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192, "tie_word_embeddings": False,
    "bos_token_id": 128000, "eos_token_id": 128001, "architectures": ["LlamaForCausalLM"], "dtype": "bfloat16",
}  # fmt: skip


def write_holes(folder: Path, files: int = 30) -> Path:
    """Write the checkpoint of a Llama of 70 billion parameters: headers, and holes where weights would be."""
    folder.mkdir(parents=True)
    config = LlamaConfig(**_70B)
    config.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    with torch.device("meta"):
        tensors = list(LlamaForCausalLM(config).state_dict().items())
    index: dict[str, str] = {}
    for number in range(files):
        name, header, offset = f"model-{number + 1:05}-of-{files:05}.safetensors", {}, 0
        for tensor, weight in tensors[number::files]:
            size = 2 * weight.numel()
            header[tensor] = {"dtype": "BF16", "shape": list(weight.shape), "data_offsets": [offset, offset + size]}
            offset, index[tensor] = offset + size, name
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + offset)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def load_on_meta(folder: Path) -> LoadedModel:
    """Load a Llama's checkpoint but for its weights, which planning an export does not read.

    The model is on torch's meta device; what is wrapped, for it has to run, is as deep and very narrow.
    """
    config = LlamaConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = LlamaForCausalLM._from_config(config, dtype=config.dtype)
    narrow: dict[str, Any] = {
        "hidden_size": 4,
        "intermediate_size": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    narrow |= {"head_dim": 2, "vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None}
    twin = LlamaForCausalLM(LlamaConfig(**config.to_dict() | narrow))
    architecture = find_architecture(model)
    return LoadedModel(
        ModelSpec(str(folder)), Checkpoint(str(folder), folder), model, make_tokenizer(), architecture,
        ModelWrappers(twin.eval(), architecture), False, "", BatchShape(torch.device("cpu"), 1),
    )  # fmt: skip
