"""A streamed model: the resident one's numbers to the last bit, one layer in memory, each read when it is run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from explorer.checkpoints.spec import ModelSpec
from explorer.errors import DeviceError, ModelError
from explorer.masks.mask import NONE, Mask
from explorer.model.layer_stream import LayerStream
from explorer.model.loading import LoadedModel, load
from explorer.model.states import States, StatesBudget
from explorer.storage.store import Store
from tests.support.tiny_models import FAMILIES, WINDOW, Tiny, load_folder, make_model, save


def stream_of(loaded: LoadedModel) -> LayerStream:
    assert loaded.wrappers.stream is not None
    return loaded.wrappers.stream


def layers_in_memory(loaded: LoadedModel) -> set[int]:
    layers = enumerate(loaded.wrappers.layers)
    return {i for i, layer in layers if not any(parameter.is_meta for parameter in layer.parameters())}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_logits_are_those_of_the_model_in_memory(tiny: Tiny, family: str, dtype: str) -> None:
    resident, streamed = (load_folder(tiny.folder(family), dtype, stream) for stream in (False, True))
    ids = torch.randint(0, 256, (2, WINDOW), generator=torch.Generator().manual_seed(1))
    for mask in (NONE, Mask.parse("1,a2,m3")):
        with torch.inference_mode(), resident.wrappers.as_variant(mask), streamed.wrappers.as_variant(mask):
            expected, found = (each.model(ids, use_cache=False).logits for each in (resident, streamed))
        assert torch.equal(expected, found)
    assert resident.numerics_key(4) == streamed.numerics_key(4)
    assert (resident.parallel, resident.absent, resident.notices) == (
        streamed.parallel,
        streamed.absent,
        streamed.notices,
    )


def test_all_but_the_layers_is_in_memory(tiny: Tiny, family: str) -> None:
    loaded = tiny.load(family, stream=True)
    inside = {id(tensor) for layer in loaded.wrappers.layers for tensor in (*layer.parameters(), *layer.buffers())}
    outside = [each for each in (*loaded.model.parameters(), *loaded.model.buffers()) if id(each) not in inside]
    assert outside
    assert not any(each.is_meta for each in outside)
    assert layers_in_memory(loaded) == set()


def test_one_layer_at_a_time_is_in_memory(tiny: Tiny) -> None:
    loaded, seen = tiny.load("llama", stream=True), []
    with loaded.wrappers.checking(lambda: seen.append(layers_in_memory(loaded))), loaded.wrappers.as_variant(NONE):
        loaded.model(torch.zeros((1, 4), dtype=torch.long), use_cache=False)
    assert seen == [set()] * loaded.n_layers
    with loaded.wrappers.in_memory(2):
        assert layers_in_memory(loaded) == {2}
    assert layers_in_memory(loaded) == set()


def test_a_layer_that_is_off_is_not_read(tiny: Tiny) -> None:
    loaded = tiny.load("llama", stream=True)
    files, ids = stream_of(loaded).files, torch.zeros((1, 4), dtype=torch.long)
    read = []
    for mask in (NONE, Mask.of_layers({1, 2})):
        before = files.bytes_read
        with torch.inference_mode(), loaded.wrappers.as_variant(mask):
            loaded.model(ids, use_cache=False)
        read.append(files.bytes_read - before)
    assert read == [4 * stream_of(loaded).largest, 2 * stream_of(loaded).largest]


def test_a_layer_is_kept_for_those_that_ask(tiny: Tiny) -> None:
    loaded = tiny.load("llama", stream=True)
    stream = stream_of(loaded)
    before = stream.files.bytes_read
    with stream.kept(0):
        assert stream.files.bytes_read == before
        for _ in range(3):
            with stream.in_memory(0):
                pass
        assert layers_in_memory(loaded) == {0}
    assert stream.files.bytes_read - before == stream.largest
    assert layers_in_memory(loaded) == set()


def test_a_failure_lets_the_layer_go(tiny: Tiny) -> None:
    loaded = tiny.load("llama", stream=True)
    with pytest.raises(ValueError, match="x"), stream_of(loaded).in_memory(1):
        raise ValueError("x")
    assert layers_in_memory(loaded) == set()


def test_shards_are_read(tiny: Tiny, tmp_path: Path) -> None:
    folder = save(make_model(FAMILIES["qwen2"]()), tmp_path / "shards", max_shard_size="40KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    ids = torch.arange(WINDOW)[None]
    with torch.inference_mode():
        whole, found = (load_folder(folder, stream=each).model(ids, use_cache=False).logits for each in (False, True))
    assert torch.equal(whole, found)


def damaged(tiny: Tiny, folder: Path, **changes: object) -> Path:
    shutil.copytree(tiny.folder("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_hidden_layers": 5}, "lacks weights"),
        ({"intermediate_size": 64}, "do not fit the config"),
        ({"num_hidden_layers": 3}, "more layers"),
    ],
)
def test_what_does_not_fit_is_refused_as_in_memory(
    tiny: Tiny, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    folder = damaged(tiny, tmp_path / "model", **changes)
    errors = []
    for stream in (False, True):
        with pytest.raises(ModelError, match=words) as caught:
            load_folder(folder, stream=stream)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_what_cannot_be_streamed_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    folder = str(tiny.folder("llama"))
    with pytest.raises(DeviceError, match="not spread"):
        load(ModelSpec(folder, device="map", stream=True), Store(None), tmp_path)
    with pytest.raises(ModelError, match="Quantized weights are not streamed"):
        load(ModelSpec(folder, quantize="int8", stream=True), Store(None), tmp_path)


def test_weights_that_are_gone_are_one_line(tiny: Tiny, tmp_path: Path) -> None:
    folder = damaged(tiny, tmp_path / "model")
    loaded = load_folder(folder, stream=True)
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(ModelError, match="Cannot read the weights"), torch.inference_mode():
        loaded.model(torch.zeros((1, 4), dtype=torch.long), use_cache=False)


def test_states_share_a_budget_and_give_it_back(tmp_path: Path) -> None:
    budget = StatesBudget(2 * 4 * 3 * 5 * 2)
    kept = [States((4, 3, 5), torch.bfloat16, tmp_path, budget) for _ in range(3)]
    assert [states._file is not None for states in kept] == [False, False, True]
    values = torch.randn(4, 3, 5).bfloat16()
    for states in kept:
        states[1:3], states[0:1], states[3:4] = values[1:3], values[:1], values[3:]
        assert torch.equal(states[:], values)
        assert torch.equal(states[2:4], values[2:])
    assert kept[2].like()._file is not None
    del kept[0]
    assert kept[1].like()._file is None
    assert list(tmp_path.iterdir()) == []
