"""Exports in other programs: mergekit, llama.cpp, PEFT, mlx-lm, the oldest and the newest transformers.

Run by `make test-interop`, which installs them apart. `INTEROP` is the Python that has most of them, with the newest
transformers; `INTEROP_OLDEST` has the oldest, `INTEROP_MLX` mlx-lm.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import LlamaConfig

from explorer.checkpoints.spec import ModelSpec
from explorer.evaluation.perplexity import score
from explorer.export import export, plan_export
from explorer.export.gguf.llamacpp import measure_perplexity
from explorer.masks.mask import Mask
from explorer.model.loading import LoadedModel, load
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from explorer.text.windows import Corpus
from tests.conftest import Real
from tests.support import brute_force
from tests.support.gguf_configs import CONFIGS
from tests.support.gguf_files import LLAMA, load_gguf, write_model, write_parts
from tests.support.tiny_models import Tiny, load_folder, make_model, save
from tests.support.wide_models import WIDE

PYTHON = os.environ["INTEROP"]
MASKS = ("9-11", "0", "29", "a0", "a20-22", "m5", "m29", "a12,m12,a3", "28,a0,a7,m29,m6")


@pytest.fixture
def model(reals: Real) -> LoadedModel:
    """The default model, which comes as a GGUF file of 4-bit blocks."""
    torch.set_num_threads(os.cpu_count() or 1)
    return reals.load("float32")


@pytest.fixture
def text(model: LoadedModel) -> Corpus:
    return model.tokenize("python-docs", 1024, 256)


@pytest.fixture(scope="module")
def original(reals: Real) -> LoadedModel:
    """The same model as a folder of safetensors."""
    folder = str(reals.load("float32").checkpoint.folder)
    return load(ModelSpec(folder, "float32", "cpu"), Store(None), reals.cache)


def _run(script: str, *words: str, python: str = PYTHON) -> Any:
    """Run a script in another Python; return the JSON of its last line."""
    done = subprocess.run(
        [python, "-c", script, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("mask", ["9-11", "0,29", "a20,m5", "0,a1,m29,14-15"])
def test_mergekit_builds_the_same(original: LoadedModel, store: Store, tmp_path: Path, mask: str) -> None:
    corpus = original.tokenize("python-docs", 256, 128)
    for format in ("mergekit", "transformers-zeroed"):
        export(original, Mask.parse(mask), tmp_path / format, corpus, store, format=format)
    merged = tmp_path / "merged"
    command = [Path(PYTHON).with_name("mergekit-yaml"), tmp_path / "mergekit" / "mergekit.yaml", merged]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    expected, found = _tensors(tmp_path / "transformers-zeroed"), _tensors(merged)
    assert found.keys() - {"lm_head.weight"} == expected.keys() - {"lm_head.weight"}
    assert all(torch.equal(found[name], expected[name]) for name in expected.keys() & found.keys())


@pytest.mark.parametrize("mask", MASKS)
def test_llama_cpp_computes_the_masked_model(
    model: LoadedModel, text: Corpus, store: Store, tmp_path: Path, mask: str
) -> None:
    """Blocks of four bits are multiplied with activations of eight, so that even the whole model is 0.8% off."""
    (measured,) = score(model, text, [Mask.parse(mask)], store)
    for format, close in (("gguf-f16", 0.001), ("gguf", 0.03)):
        folder = tmp_path / format
        folder.mkdir()
        plan_export(model, Mask.parse(mask), format).write(folder, lambda size: None)
        found = measure_perplexity(folder / "model.gguf", text.held_out.ids.tolist(), PYTHON)
        assert found == pytest.approx(measured.perplexity, rel=close)


@pytest.mark.parametrize("modifiers", [["refit"], ["replaceme"], ["refit", "lora;steps=2;warmup=0"]])
def test_llama_cpp_computes_what_was_changed(
    model: LoadedModel, text: Corpus, store: Store, tmp_path: Path, modifiers: list[str]
) -> None:
    """In the source's own blocks of four bits changed weights are rounded anew: then what was reloaded is compared."""
    variant = modify(model, text, Mask.parse("12-14"), modifiers, store)
    for format, close in (("gguf-f16", 0.002), ("gguf", 0.03)):
        made = export(model, variant, tmp_path / format, text, store, format=format)
        found = measure_perplexity(tmp_path / format / "model.gguf", text.held_out.ids.tolist(), PYTHON)
        assert found == pytest.approx(made.verification.perplexity_reloaded, rel=close)
    (measured,) = score(model, text, [variant], store)
    exact = measure_perplexity(tmp_path / "gguf-f16" / "model.gguf", text.held_out.ids.tolist(), PYTHON)
    assert exact == pytest.approx(measured.perplexity, rel=0.002)


@pytest.mark.parametrize("family", ["llama", "llama3", "qwen2"])
@pytest.mark.parametrize("mask", ["1", "2,a0,m3"])
def test_llama_cpp_reads_families_that_were_converted(store: Store, tmp_path: Path, family: str, mask: str) -> None:
    loaded = load_folder(save(make_model(CONFIGS[family]()), tmp_path / "source"))
    corpus = loaded.tokenize("python-docs", 480, 120)
    export(loaded, Mask.parse(mask), tmp_path / "out", corpus, store, format="gguf-f16")
    found = measure_perplexity(tmp_path / "out" / "model.gguf", corpus.held_out.ids.tolist(), PYTHON)
    oracle = brute_force.zeroed(loaded.checkpoint.folder, Mask.parse(mask))
    assert found == pytest.approx(brute_force.perplexity(oracle, corpus.held_out.ids), rel=0.002)


_TOKENS = """
import json, sys
from llama_cpp import Llama
model = Llama(sys.argv[1], vocab_only=True, verbose=False)
text = open(sys.argv[2], "rb").read()
print(json.dumps(model.tokenize(text, add_bos=False, special=False)))
"""


@pytest.mark.parametrize("blocks", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("mask", ["14", "a0,a9,m20"])
def test_llama_cpp_reads_what_was_converted(
    original: LoadedModel, store: Store, tmp_path: Path, blocks: str, mask: str
) -> None:
    corpus = original.tokenize("python-docs", 1024, 256)
    made = export(original, Mask.parse(mask), tmp_path / "out", corpus, store, format=f"gguf-{blocks}")
    in_torch = made.verification.perplexity_reloaded  # of the rounded weights
    file = tmp_path / "out" / "model.gguf"
    found = measure_perplexity(file, corpus.held_out.ids.tolist(), PYTHON)
    close = {"f16": 0.002, "bf16": 0.005, "q8_0": 0.02}[
        blocks
    ]  # llama.cpp rounds activations to the type of the blocks
    assert found == pytest.approx(in_torch, rel=close)
    sample = tmp_path / "sample.txt"
    sample.write_text("It's 1234 o'clock -- naïve café;\n\n\tdef f(x):\n    return x**2  # 東京 🙂\n")
    expected = original.tokenizer(sample.read_text(), add_special_tokens=False).input_ids
    assert _run(_TOKENS, str(file), str(sample)) == expected


#: The types of llama.cpp's quantizer that this program reads; an importance matrix is given for those that want one.
QUANTIZATIONS = (
    *("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M", "Q6_K"),
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0"),
)

_QUANTIZE = """
import ctypes, json, sys
import llama_cpp
source, target, kind, rows = sys.argv[1:]
widths = json.loads(rows)
ones = (ctypes.c_float * max(widths.values()))(*[1.0] * max(widths.values()))
entries = [llama_cpp.llama_model_imatrix_data(name.encode(), ones, width) for name, width in widths.items()]
importance = (llama_cpp.llama_model_imatrix_data * (len(entries) + 1))(*entries)
params = llama_cpp.llama_model_quantize_default_params()
params.ftype, params.imatrix = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}"), importance
print(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))
"""


@pytest.fixture(scope="module")
def in_float32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GGUF file of a random Llama whose rows are as wide as the widest blocks."""
    config = LlamaConfig(**{**LLAMA, "hidden_size": 256, "intermediate_size": 256, "initializer_range": 0.05})
    return write_model(tmp_path_factory.mktemp("float32") / "model.gguf", make_model(config), "llama")


@pytest.mark.parametrize("kind", QUANTIZATIONS)
def test_llama_cpp_reads_every_quantization(in_float32: Path, tmp_path: Path, kind: str) -> None:
    tensors = {tensor.name: int(tensor.shape[0]) for tensor in GGUFReader(in_float32).tensors}
    source = tmp_path / "source.gguf"
    assert _run(_QUANTIZE, str(in_float32), str(source), kind, json.dumps(tensors)) == 0
    loaded = load_gguf(source)
    ids = loaded.tokenize("python-docs", 480, 120).held_out.ids
    for mask in ("1", "2,a0,m1"):
        (folder := tmp_path / mask).mkdir()
        plan_export(loaded, Mask.parse(mask), "gguf").write(folder, lambda size: None)
        oracle = brute_force.zeroed(loaded.checkpoint.folder, Mask.parse(mask))
        found = measure_perplexity(folder / "model.gguf", ids.tolist(), PYTHON)
        assert found == pytest.approx(brute_force.perplexity(oracle, ids), rel=0.05)


def test_llama_cpp_reads_what_came_in_parts(tmp_path: Path) -> None:
    loaded = load_gguf(write_parts(tmp_path, make_model(LlamaConfig(**LLAMA)), 3)[0])
    ids, mask = loaded.tokenize("python-docs", 480, 120).held_out.ids, Mask.parse("1,a0")
    (folder := tmp_path / "out").mkdir()
    plan_export(loaded, mask, "gguf").write(folder, lambda size: None)
    oracle = brute_force.perplexity(brute_force.zeroed(loaded.checkpoint.folder, mask), ids)
    assert measure_perplexity(folder / "model.gguf", ids.tolist(), PYTHON) == pytest.approx(oracle, rel=0.002)


_LORA = """
import json, sys
import numpy as np, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
folder, ids = sys.argv[1], torch.from_numpy(np.load(sys.argv[2]))
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True)
with torch.no_grad():
    logits = model(ids, use_cache=False).logits
np.save(sys.argv[3], logits.numpy())
tuned = get_peft_model(model, LoraConfig(target_modules=["q_proj", "down_proj"], r=4))
losses = []
optimizer = torch.optim.Adam([p for p in tuned.parameters() if p.requires_grad], 1e-3)
for step in range(4):
    loss = tuned(ids, labels=ids).loss
    loss.backward(); optimizer.step(); optimizer.zero_grad()
    losses.append(float(loss))
print(json.dumps(losses))
"""


@pytest.mark.parametrize("format", ["transformers-zeroed", "deci", "pruned-remote-code"])
def test_peft_tunes_what_is_left(original: LoadedModel, store: Store, tmp_path: Path, format: str) -> None:
    corpus, mask = original.tokenize("python-docs", 256, 128), Mask.parse("9-10,a0,a20,m7")
    export(original, mask, tmp_path / "out", corpus, store, format=format)
    ids = corpus.held_out.ids[:1]
    np.save(tmp_path / "ids.npy", ids)
    losses = _run(_LORA, str(tmp_path / "out"), str(tmp_path / "ids.npy"), str(tmp_path / "logits.npy"))
    assert losses == sorted(losses, reverse=True)
    with torch.inference_mode(), original.wrappers.as_variant(mask):
        expected = original.model(torch.from_numpy(ids), use_cache=False).logits
    found = torch.from_numpy(np.load(tmp_path / "logits.npy"))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


_LOAD = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForCausalLM
ids, folders = torch.from_numpy(np.load(sys.argv[1])), sys.argv[2:]
for folder in folders:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, trust_remote_code=True).eval()
    with torch.no_grad():
        np.save(f"{folder}/logits.npy", model(ids, use_cache=False).logits.numpy())
print(len(folders))
"""

_LOAD_IN_MLX = """
import json, sys
from pathlib import Path
import mlx.core as mx
import numpy as np
from mlx_lm.utils import load_model
ids, folders = mx.array(np.load(sys.argv[1])), sys.argv[2:]
for folder in folders:
    np.save(f"{folder}/logits.npy", np.array(load_model(Path(folder))[0](ids)))
print(len(folders))
"""


@pytest.mark.parametrize(
    ("variable", "script", "formats"),
    [
        ("INTEROP", _LOAD, ("transformers", "deci", "pruned-remote-code")),
        ("INTEROP_OLDEST", _LOAD, ("transformers", "deci", "pruned-remote-code")),
        ("INTEROP_MLX", _LOAD_IN_MLX, ("deci",)),
    ],
)
def test_others_load_the_masked_model(
    tiny: Tiny, tmp_path: Path, variable: str, script: str, formats: tuple[str, ...]
) -> None:
    """Not of Gemma 2 and Qwen3-MoE in 5.0: it computes the first otherwise, and cannot read the second's config."""
    models = [load_folder(save(make_model(make()), tmp_path / f"source-{name}")) for name, make in WIDE.items()]
    if variable != "INTEROP_MLX":
        models += [tiny.load(name) for name in ("gpt2", "qwen3", "falcon_new", "opt", "bloom", "gpt_oss", "smollm3")]
    ids = np.random.default_rng(0).integers(0, 256, (2, 16))
    np.save(tmp_path / "ids.npy", ids)
    expected = {}
    for number, loaded in enumerate(models):
        for format in formats if number < len(WIDE) else [each for each in formats if each != "deci"]:
            for mask in ("0-1",) if format == "transformers" else ("2,a1,m3", "1,a0"):
                (folder := tmp_path / f"{number}-{format}-{mask}").mkdir()
                plan_export(loaded, Mask.parse(mask), format).write(folder, lambda size: None)
                oracle = brute_force.zeroed(loaded.checkpoint.folder, Mask.parse(mask))
                expected[folder] = brute_force.logits(oracle, ids)
    _run(script, str(tmp_path / "ids.npy"), *map(str, expected), python=os.environ[variable])
    for folder, logits in expected.items():
        found = torch.from_numpy(np.load(folder / "logits.npy"))
        torch.testing.assert_close(found, logits, rtol=0, atol=1e-5 * float(logits.abs().max()))
