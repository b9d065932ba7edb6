"""A tokenizer's files -> GGUF fields: vocabulary, kinds of tokens, merges, special tokens, chat template."""

from __future__ import annotations

import json
from typing import Any

from gguf import GGUFValueType, SpecialVocab, TokenType

from explorer.errors import ExportError
from explorer.export.gguf.model import Field
from explorer.model import LoadedModel
from explorer.reading import LARGE, Unreadable, read_text

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

#: The expression that splits a text, and llama.cpp's name for it.
_SPLITS = {_WORDS % "{1,3}": "llama-bpe", _WORDS % "": "qwen2"}

_DIGIT = r"\p{N}"  # apart; as a folder that was made of a GGUF file says it


def make_tokens(loaded: LoadedModel) -> dict[str, Field]:
    """Return the fields of a byte-level BPE tokenizer.

    Raises ExportError: it is another kind, or splits text as no name says that llama.cpp knows.
    """
    folder = loaded.checkpoint.folder
    try:
        document = json.loads(read_text(folder / "tokenizer.json", LARGE))
    except (Unreadable, ValueError, RecursionError):
        raise _refuse("there is no tokenizer.json") from None
    if document["model"]["type"] != "BPE" or document["model"].get("byte_fallback"):
        raise _refuse("it is no byte-level BPE")
    if document.get("normalizer") not in (None, {"type": "NFC"}):
        raise _refuse("it normalizes text")
    vocabulary = loaded.config.vocab_size
    by_id = {number: token for token, number in loaded.tokenizer.get_vocab().items()}
    if max(by_id) >= vocabulary:
        raise _refuse(f"it has more tokens than the model's {vocabulary}")
    added = {entry["id"]: entry["special"] for entry in document.get("added_tokens", [])}
    texts = [by_id.get(number, f"[PAD{number}]") for number in range(vocabulary)]
    kinds = [
        TokenType.UNUSED
        if number not in by_id
        else TokenType.CONTROL
        if added.get(number)
        else TokenType.USER_DEFINED
        if number in added
        else TokenType.NORMAL
        for number in range(vocabulary)
    ]
    special = SpecialVocab(folder, load_merges=True, n_vocab=vocabulary)
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in document["model"]["merges"]]
    fields = {
        "model": Field("gpt2", GGUFValueType.STRING),
        "pre": Field(_name_split(document.get("pre_tokenizer")), GGUFValueType.STRING),
        "tokens": Field(texts, GGUFValueType.ARRAY, GGUFValueType.STRING),
        "token_type": Field([int(kind) for kind in kinds], GGUFValueType.ARRAY, GGUFValueType.INT32),
        "merges": Field(merges, GGUFValueType.ARRAY, GGUFValueType.STRING),
        "add_bos_token": Field(_adds_bos(loaded.tokenizer), GGUFValueType.BOOL),
    }
    for kind, number in special.special_token_ids.items():
        key = {"unk": "unknown", "pad": "padding"}.get(kind, kind)
        fields[f"{key}_token_id"] = Field(int(number), GGUFValueType.UINT32)
    for kind in ("bos", "eos"):
        if (number := getattr(loaded.tokenizer, f"{kind}_token_id")) is not None:
            fields[f"{kind}_token_id"] = Field(int(number), GGUFValueType.UINT32)
    made = {f"tokenizer.ggml.{key}": field for key, field in fields.items()}
    if isinstance(template := loaded.tokenizer.chat_template, str):
        made["tokenizer.chat_template"] = Field(template, GGUFValueType.STRING)
    return made


def _refuse(found: str) -> ExportError:
    return ExportError(
        "The tokenizer cannot be written to a GGUF file here",
        found,
        "Convert the original with llama.cpp's own converter, and export from that file",
    )


def _adds_bos(tokenizer: Any) -> bool:
    return tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]


def _name_split(pre: dict[str, Any] | None) -> str:
    """Return llama.cpp's name of how a text is split before it is merged."""
    steps = (pre or {}).get("pretokenizers", [pre] if pre else [])
    *before, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space"):
        raise _refuse("it does not end in bytes")
    if not before and last.get("use_regex", True):
        return "gpt-2"
    if len(before) == 1:
        (step,) = before
        expression = step.get("pattern", {}).get("Regex", "") if step["type"] == "Split" else ""
        digits = expression == _DIGIT or (step["type"] == "Digits" and step.get("individual_digits"))
        if digits and last.get("use_regex", True):
            return "smollm"
        name = _SPLITS.get(expression)
        if name and not last.get("use_regex", True):
            return name
    raise _refuse("how it splits text is not known")
