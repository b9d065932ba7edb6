"""Exports of models of more than text, or with layers beyond the last one: what is not the decoder's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from explorer.evaluation import decode_speed, score
from explorer.export import export
from explorer.masks.mask import Mask
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.family_checks import load_plain, make_random, read_bytes
from tests.support.tiny_models import WINDOW, load_folder, save

#: Published as image-text -> a pattern for tensors of the language model's layers, as they are called in files.
_PUBLISHED = {
    "gemma3": r"(language_model\.model\.layers)\.(\d+)\.(.+)",
    "llama4": r"(language_model\.model\.layers)\.(\d+)\.(.+)",
    "qwen3_5": r"(model\.language_model\.layers)\.(\d+)\.(.+)",
    "qwen3_vl": r"(model\.language_model\.layers)\.(\d+)\.(.+)",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_speed, "TOKENS", 2)


@pytest.mark.parametrize("name", list(_PUBLISHED))
def test_other_towers_keep_their_bytes(name: str, store: Store, tmp_path: Path) -> None:
    loaded = load_folder(save(make_random(name, "images"), tmp_path / "model"))
    corpus, mask = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW), Mask.parse("1")
    export(loaded, mask, tmp_path / "out", corpus, store, format="transformers")
    source, written = read_bytes(tmp_path / "model"), read_bytes(tmp_path / "out")
    expected, layers = {}, 0
    for tensor, held in source.items():
        match = re.fullmatch(_PUBLISHED[name], tensor)
        layers += match is not None
        if match and int(match[2]) == 1:
            continue
        own = tensor if match is None else f"{match[1]}.{int(match[2]) - (int(match[2]) > 1)}.{match[3]}"
        expected[own] = held
    assert written == expected
    assert 0 < layers < len(source)
    assert any("vis" in tensor for tensor in written)
    before, after = (json.loads((tmp_path / each / "config.json").read_text()) for each in ("model", "out"))
    differing = {key for key in before if before[key] != after[key]}
    assert differing == {"text_config"}
    assert after["text_config"]["num_hidden_layers"] == loaded.n_layers - 1
    again = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    assert type(again) is type(loaded.model)
    ids = torch.from_numpy(corpus.held_out.ids)
    with torch.inference_mode(), loaded.wrappers.as_variant(mask):
        measured = loaded.model(input_ids=ids, use_cache=False).logits
    with torch.inference_mode():
        found = again(input_ids=ids, use_cache=False).logits
    torch.testing.assert_close(found, measured, rtol=0, atol=1e-5 * float(measured.abs().max()))


def add_further(folder: Path, name: str, form: str) -> list[str]:
    """Put tensors beside a checkpoint's own that predict a further token; return their names."""
    own = load_file(folder / "model.safetensors")
    last = [tensor for tensor in own if tensor.startswith("model.layers.3.")]
    begin = "model.layers.4." if form == "layers" else "mtp."
    head = {f"{begin}{'eh_proj' if form == 'layers' else 'fc'}.weight": torch.randn(32, 64)}
    stack = "" if form == "layers" else "layers.0."
    added = {f"{begin}{stack}{tensor.removeprefix('model.layers.3.')}": own[tensor].clone() for tensor in last} | head
    save_file(own | added, folder / "model.safetensors", {"format": "pt"})
    path, key = folder / "config.json", "num_nextn_predict_layers"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 1}))
    return sorted(added)


@pytest.mark.parametrize(
    ("name", "form"),
    [("glm4_moe", "layers"), ("deepseek_v3", "layers"), ("qwen3_next", "mtp"), ("mimo_v2_flash", "mtp")],
)
def test_layers_for_further_tokens_go_with_layers_and_stay_with_sites(
    name: str, form: str, store: Store, tmp_path: Path
) -> None:
    folder = save(make_random(name, "text"), tmp_path / "model")
    further = add_further(folder, name, form)
    loaded = load_folder(folder)
    assert any("for further tokens, not used" in notice for notice in loaded.notices)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for text, format, stay in (("1-2", "transformers", False), ("m1", "transformers-zeroed", True)):
        out, mask = tmp_path / text, Mask.parse(text)
        export(loaded, mask, out, corpus, store, format=format)
        written = read_bytes(out)
        assert [tensor for tensor in sorted(written) if tensor in further] == (further if stay else [])
        assert json.loads((out / "config.json").read_text())["num_nextn_predict_layers"] == stay
        said = "stay as they were" if stay else "are left out"
        assert re.search(
            rf"- {len(further)} tensors .*, such as `.+`, {said}: they predict", (out / "README.md").read_text()
        )
        (measured,), ids = score(loaded, corpus, [mask], store), corpus.held_out.ids
        found = brute_force.logits(load_plain(out), ids)[:, :-1].flatten(0, 1)
        nll = torch.nn.functional.cross_entropy(found, torch.from_numpy(ids)[:, 1:].flatten(), reduction="sum")
        assert float(nll) == pytest.approx(float(measured.nll.sum()), rel=1e-5)
