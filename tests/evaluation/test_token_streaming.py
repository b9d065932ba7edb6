"""The text so far: told after every token, in whole characters, and no more than the last tokens are decoded."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from explorer.evaluation.token_streaming import TextSoFar

TEXT = "Héllo, wörld \u4f60\u597d \U0001f469\u200d\U0001f680!\nA new line,  and more \u0440\u0443\u0441."


def bytes_as_tokens() -> PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte, as of GPT-2."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def sentence_pieces() -> PreTrainedTokenizerFast:
    """A tokenizer as of Llama: pieces that begin with a space, which the first loses; bytes for what it lacks."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581", "\u2581new", "\u2581line", "\u2581and"]
    made = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>")


def listen(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> list[str]:
    """Return what is told of some tokens, one after the other."""
    told: list[str] = []
    streamer = TextSoFar(tokenizer, told.append)
    streamer.put(torch.tensor([[3, 4, 5]]))
    for token in ids:
        streamer.put(torch.tensor([token]))
    streamer.end()
    return told


def whole(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("make", [bytes_as_tokens, sentence_pieces])
def test_every_text_is_that_of_the_tokens_so_far(make: type) -> None:
    tokenizer = make()
    ids = tokenizer(TEXT, add_special_tokens=False).input_ids
    told = listen(tokenizer, ids)
    assert len(told) == len(ids)
    for number, text in enumerate(told, 1):
        assert whole(tokenizer, ids).startswith(text.rstrip("\ufffd"))
        so_far = whole(tokenizer, ids[:number])
        assert text == so_far or "\ufffd" in so_far  # some decoders lose whole characters before one that is parted
    assert "\ufffd" in "".join(told)
    assert "\ufffd" not in told[-1]


@pytest.mark.parametrize("make", [bytes_as_tokens, sentence_pieces])
def test_the_last_text_is_the_whole_one(make: type) -> None:
    tokenizer = make()
    for seed in range(40):
        ids = torch.randint(len(tokenizer), (60,), generator=torch.Generator().manual_seed(seed)).tolist()
        assert listen(tokenizer, ids)[-1] == whole(tokenizer, ids)


def test_spaces_stay_between_pieces_and_special_tokens_are_not_told() -> None:
    tokenizer = sentence_pieces()
    new, line, end = tokenizer.convert_tokens_to_ids(["\u2581new", "\u2581line", "<end>"])
    assert listen(tokenizer, [new, line, end, line]) == ["new", "new line", "new line", "new line line"]


def test_few_tokens_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = bytes_as_tokens()
    ids = tokenizer(TEXT * 20, add_special_tokens=False).input_ids
    decoded: list[int] = []
    decode = tokenizer.decode

    def count(part: list[int], **options: bool) -> str:
        decoded.append(len(part))
        return decode(part, **options)

    monkeypatch.setattr(tokenizer, "decode", count)
    assert listen(tokenizer, ids)[-1] == decode(ids)
    assert decoded.pop() == len(ids)  # at the end
    assert max(decoded) <= 32
