"""The tokenizer that a GGUF file describes -> tokenizer.json, cutting text as llama.cpp cuts it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from explorer.checkpoints.gguf.file import GgufFile, refuse
from explorer.errors import ModelError
from explorer.guarding import guarded

_GGML = "tokenizer.ggml."

#: How llama.cpp splits a text before it merges bytes, by `tokenizer.ggml.pre`; what is not here is refused. Words as
#: GPT-2 has them, or the same with each digit apart; others by the expressions that transformers has for them.
_JINA = ("jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code")
_WORDS = (*_JINA, "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion")
_DIGITS_APART = ("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b")

#: Of these llama.cpp begins a text with BOS unless the file says otherwise, and takes a word that is a token as it is.
_LLAMA3 = (
    *("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1"),
    *("pixtral", "midm-2.0", "lfm2", "jina-v5-nano", "tekken"),
)

#: The split of a file that names none, one expression after the other.
_UNNAMED = (
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)

#: Ids of special tokens in a SentencePiece vocabulary whose file does not say them.
_SPECIAL = {"bos": 1, "eos": 2, "unknown": 0}

_SAMPLE = " In 2024, it's  what\n\ttokenizers — naïve or not — are for: x=10; <s>"


def special_id(file: GgufFile, kind: str) -> int | None:
    """Return the id of a special token (`bos`, `eos`, `unknown`, `padding`), if the file has it.

    Raises ModelError: it is none of the vocabulary's.
    """
    tokens = _tokens(file)
    default = _SPECIAL.get(kind) if file.fields.get(f"{_GGML}model") == "llama" else None
    found = file.fields.get(f"{_GGML}{kind}_token_id", default)
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < len(tokens):
        refuse(file.path, f"{_GGML}{kind}_token_id is {str(found)[:40]}, and there are {len(tokens)} tokens")
    return found


def adds_bos(file: GgufFile) -> bool:
    """Tell whether a text begins with BOS: as the file says, else as llama.cpp does for its kind of tokenizer."""
    said = file.fields.get(f"{_GGML}add_bos_token")
    if said is not None:
        return bool(said)
    return file.fields.get(f"{_GGML}model") == "llama" or file.fields.get(f"{_GGML}pre") in _LLAMA3


def write_tokenizer(file: GgufFile, folder: Path) -> None:
    """Write tokenizer.json and what belongs to it.

    Raises ModelError: a kind of tokenizer, or of split, that is not read.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    with guarded("Cannot read the GGUF file's tokenizer", "Use the model's safetensors"):
        backend = _make_backend(file)
        tokens = _tokens(file)
        special = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
        ids = {name: special_id(file, kind) for kind, name in special.items()}
        bos, eos = adds_bos(file), bool(file.fields.get(f"{_GGML}add_eos_token", False))
        for wanted, name in ((bos, "bos"), (eos, "eos")):
            if wanted and ids[name] is None:
                refuse(file.path, f"texts take {name.upper()}, and {_GGML}{name}_token_id is missing")
        made = PreTrainedTokenizerFast(
            tokenizer_object=backend,
            add_bos_token=bos,
            add_eos_token=eos,
            clean_up_tokenization_spaces=False,
            chat_template=file.fields.get("tokenizer.chat_template"),
            **{f"{name}_token": None if number is None else tokens[number] for name, number in ids.items()},
        )
        made.save_pretrained(folder)
        again = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        expected = [*([ids["bos"]] if bos else []), *_cut(made, _SAMPLE), *([ids["eos"]] if eos else [])]
        if again(_SAMPLE).input_ids != expected:
            raise ModelError("Cannot keep the GGUF file's tokenizer", file.path.name, "Use the model's safetensors")


def _cut(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False).input_ids


def _tokens(file: GgufFile) -> list[str]:
    tokens = file.fields.get(f"{_GGML}tokens")
    if not isinstance(tokens, list) or not tokens or not all(isinstance(token, str) for token in tokens):
        refuse(file.path, f"it has no vocabulary: {_GGML}tokens")
    return tokens


def _make_backend(file: GgufFile) -> Any:
    """Make the tokenizer of the `tokenizers` package, with llama.cpp's split, prefix and merges."""
    from transformers.integrations.gguf import GGUF_TOKENIZER_MAPPING, convert_gguf_tokenizer

    kind = file.fields.get(f"{_GGML}model")
    if kind not in ("gpt2", "llama"):
        refuse(file.path, f"the tokenizer {kind!r} is not read", "Use the model's safetensors")
    names = GGUF_TOKENIZER_MAPPING["tokenizer"]
    described = {
        name: file.fields[f"tokenizer.{key}"] for key, name in names.items() if f"tokenizer.{key}" in file.fields
    }
    backend = _without_strangers(convert_gguf_tokenizer(file.architecture, described)[0], len(_tokens(file)))
    if kind == "gpt2":
        _split(file, backend)
    else:
        _prefix(file, backend)
    return backend


def _without_strangers(backend: Any, size: int) -> Any:
    """Leave out the tokens that transformers' class for the kind adds after a vocabulary of this size."""
    from tokenizers import Tokenizer

    document = json.loads(backend.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["id"] < size]
    return Tokenizer.from_str(json.dumps(document))


def _split(file: GgufFile, backend: Any) -> None:
    """Split a text as the file says. Raises ModelError: it names a split that is not known here."""
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    pre = file.fields.get(f"{_GGML}pre", "default")
    if pre in _LLAMA3:
        backend.model.ignore_merges = True
    if pre in GGUF_PRE_TOKENIZER_SPLITS:
        return  # it has been set
    words = ByteLevel(add_prefix_space=False)
    if pre in _WORDS:
        backend.pre_tokenizer = words
    elif pre in _DIGITS_APART:
        backend.pre_tokenizer = Sequence([Split(Regex(r"\p{N}"), "isolated"), words])
    elif pre == "default":
        splits = [Split(Regex(expression), "isolated") for expression in _UNNAMED]
        backend.pre_tokenizer = Sequence([*splits, ByteLevel(add_prefix_space=False, use_regex=False)])
    else:
        refuse(file.path, f"how {_GGML}pre = {str(pre)[:40]!r} splits text is not known", "Use the model's safetensors")


def _prefix(file: GgufFile, backend: Any) -> None:
    """See that a text gets a blank before it, or none, as the file says. Raises ModelError: it cannot be changed."""
    from tokenizers import decoders
    from tokenizers.pre_tokenizers import Metaspace

    if file.fields.get(f"{_GGML}remove_extra_whitespaces"):
        refuse(file.path, f"{_GGML}remove_extra_whitespaces is true", "Use the model's safetensors")
    wanted = bool(file.fields.get(f"{_GGML}add_space_prefix", True))
    if backend.encode("a", add_special_tokens=False).tokens[0].startswith("▁") == wanted:
        return
    if wanted or not isinstance(backend.pre_tokenizer, Metaspace):
        refuse(file.path, f"{_GGML}add_space_prefix is {wanted}", "Use the model's safetensors")
    backend.pre_tokenizer = Metaspace(replacement="▁", prepend_scheme="never", split=False)
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
