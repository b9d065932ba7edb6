"""Decoders counted in closed form: what their classes hold, whatever the config says; anything else is left to them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from explorer.model import config_only
from explorer.model.config_only import count_parameters_of_config
from explorer.model.plain_decoder import FORMS, count_plain_decoder
from explorer.storage.store import Store

PLAIN = {
    "hidden_size": 48, "intermediate_size": 80, "num_attention_heads": 6, "num_key_value_heads": 2,
    "num_hidden_layers": 3, "vocab_size": 101,
}  # fmt: skip


def draw_config(model_type: str, draw: random.Random) -> dict[str, Any]:
    """A config of random sizes, with some of the words that its class reads."""
    heads = draw.choice([2, 4, 6])
    config: dict[str, Any] = {
        "model_type": model_type,
        "hidden_size": heads * draw.choice([4, 8, 10]),
        "intermediate_size": draw.randrange(8, 99),
        "num_attention_heads": heads,
        "num_key_value_heads": draw.choice([1, 2, heads]),
        "num_hidden_layers": draw.randrange(1, 5),
        "vocab_size": draw.randrange(50, 200),
    }
    words: dict[str, list[Any]] = {
        "attention_bias": [True, False],
        "mlp_bias": [True, False],
        "tie_word_embeddings": [True, False],
        "use_sliding_window": [False],
        "sliding_window": [None, 4, 4096],
        "head_dim": [4, 6, 16],
        "torch_dtype": ["float16", "bfloat16", "float32"],
        "rope_theta": [500000.0],
        "pad_token_id": [None, 3],
    }
    form = FORMS[model_type]
    own = {*form.words, "tie_word_embeddings", "torch_dtype", "rope_theta", "pad_token_id", "head_dim"}
    needed = {*form.needs, *(["sliding_window"] if form.slides else [])}
    config |= {word: draw.choice(words[word]) for word in sorted(own) if word in needed or draw.random() < 0.5}
    if model_type == "llama" and draw.random() < 0.3:
        del config["num_key_value_heads"]
    return config


@pytest.mark.parametrize("model_type", FORMS)
def test_closed_form_is_what_the_class_holds(
    model_type: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(model_type)
    for number in range(8):
        config = draw_config(model_type, draw)
        dtype = draw.choice(["auto", "float32", "float16"])
        plain = count_plain_decoder(config, dtype)
        assert plain is not None, config
        (tmp_path / "config.json").write_text(json.dumps(config))
        with monkeypatch.context() as patched:
            patched.setattr(config_only, "count_plain_decoder", lambda *given: None)
            assert count_parameters_of_config(str(tmp_path), dtype, store, tmp_path) == plain, (number, config)


@pytest.mark.parametrize(
    "more",
    [
        {"model_type": "mixtral"},
        {"model_type": "mistral"},  # what slides where nothing is said only the class knows
        {"layer_types": ["full_attention"] * 3},
        {"quantization_config": {"quant_method": "gptq"}},
        {"a_word_of_tomorrow": 1},
        {"num_attention_heads": 5},
        {"num_key_value_heads": 4},
        {"head_dim": [8, 8, 8]},
        {"pad_token_id": 101},
        {"hidden_act": "tanhish"},
        {"architectures": ["LlamaForSequenceClassification"]},
        {"torch_dtype": "float8_e4m3fn"},
        {"model_type": "qwen3", "num_key_value_heads": 2},  # its class gives heads a width of its own
        {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8},
    ],
    ids=str,
)
def test_what_only_a_class_knows_is_left_to_it(more: dict[str, Any]) -> None:
    assert count_plain_decoder({"model_type": "llama", **PLAIN}, "auto") is not None
    assert count_plain_decoder({"model_type": "llama", **PLAIN, **more}, "auto") is None


def test_an_unknown_dtype_is_left_to_what_refuses_it() -> None:
    assert count_plain_decoder({"model_type": "llama", **PLAIN}, "float12") is None
