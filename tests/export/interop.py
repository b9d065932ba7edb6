"""Exports in other programs: mergekit, llama.cpp, PEFT. Run by `make test-interop`, which installs them apart.

`INTEROP` is the Python that has them; they bring versions of torch and transformers of their own.
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
from safetensors.torch import load_file

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
from tests.support.tiny_models import load_folder, make_model, save

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


def _run(script: str, *words: str) -> Any:
    """Run a script in the other Python; return the JSON of its last line."""
    done = subprocess.run(
        [PYTHON, "-c", script, *words],
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
    for format, close in (("gguf-f16", 0.001), ("gguf", 0.02)):
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
