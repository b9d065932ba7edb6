"""Where models of several forms keep their parts, found at load; and what is said where only whole layers can go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BloomConfig, MambaConfig, OlmoConfig, OpenAIGPTConfig, OPTConfig

from explorer.errors import MaskError, UnsupportedModel
from explorer.evaluation.perplexity import score
from explorer.masks.mask import Mask
from explorer.model.dissection import tell_rest
from explorer.storage.store import Store
from tests.support import brute_force
from tests.support.family_checks import check_masks
from tests.support.tiny_models import VOCABULARY, WINDOW, load_folder, make_model, save

_SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48,
                          "num_hidden_layers": 3, "num_attention_heads": 4, "initializer_range": 0.3,
                          "pad_token_id": None, "bos_token_id": 256, "eos_token_id": 257}  # fmt: skip


def test_a_family_is_recognised_by_experiment(tmp_path: Path, store: Store) -> None:
    loaded = load_folder(save(make_model(OlmoConfig(**_SMALL)), tmp_path / "olmo"))
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    for text in ("1", "a0,m2"):
        (found,) = score(loaded, corpus, [Mask.parse(text)], store)
        oracle = brute_force.zeroed(loaded.checkpoint.folder, Mask.parse(text))
        assert found.perplexity == pytest.approx(brute_force.perplexity(oracle, corpus.held_out.ids), rel=1e-5)


def test_a_layer_of_a_state_space_alone_has_no_mlp(tmp_path: Path) -> None:
    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)
    loaded = load_folder(save(make_model(config), tmp_path / "model"))
    assert loaded.architecture.attention == ("mixer",)
    assert loaded.absent == Mask.parse("m0-1")


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        initializer_range=0.3, max_position_embeddings=64,
    )  # fmt: skip
    with pytest.raises(UnsupportedModel, match="its tokens see those that come after them"):
        load_folder(save(make_model(config), tmp_path / "model"))


def test_where_layers_are_not_sums_only_whole_ones_go(tmp_path: Path) -> None:
    config = OpenAIGPTConfig(vocab_size=VOCABULARY, n_embd=32, n_layer=3, n_head=4, n_positions=64)
    loaded = load_folder(save(make_model(config), tmp_path / "model"))
    assert re.fullmatch(
        r"layer 0 \(Block\) is not its input plus what its modules add: \d+% of that are missing from the sum of .+, "
        r"which none of its modules gives",
        loaded.architecture.whole,
    )
    with loaded.wrappers.as_variant(Mask.parse("1")):
        pass
    with (
        pytest.raises(MaskError, match=r"a1 cannot be turned off by itself: layer 0 .*\. Turn off layer 1"),
        loaded.wrappers.as_variant(Mask.parse("0,a1")),
    ):
        pass


_POST_NORM = {
    "opt": OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, ffn_dim=48, num_hidden_layers=3, num_attention_heads=4,
        word_embed_proj_dim=32, max_position_embeddings=64, do_layer_norm_before=False, init_std=0.3,
    ),
    "bloom": BloomConfig(
        vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4, initializer_range=0.3,
        apply_residual_connection_post_layernorm=True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", list(_POST_NORM))
def test_in_a_form_that_is_no_sum_only_whole_layers_go(family: str, tmp_path: Path) -> None:
    loaded = load_folder(save(make_model(_POST_NORM[family]), tmp_path / "model"))
    assert "is not its input plus what its modules add" in loaded.architecture.whole
    check_masks(loaded)


def test_the_module_that_a_sum_lacks_is_named() -> None:
    given = {name: torch.randn(2, 3, 4) for name in "abcde"}
    for name in given:
        given[name][0] *= 10 if name != "e" else 1
    assert re.fullmatch(
        r"\d+% of that are missing from the sum of a and b and c and d, which is what e gives",
        tell_rest(given, sum(given.values(), torch.zeros(2, 3, 4)), 1e-4),
    )
    assert tell_rest({}, torch.ones(2, 3, 4), 1e-4) == "none gives what could be added"
