"""Format -> how to load it, command by command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from functools import partial
from typing import Any

from explorer.export.formats import Format

_TRANSFORMERS = """\
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained(FOLDER{trust})
tokenizer = AutoTokenizer.from_pretrained(FOLDER{trust})"""

_DRAFTING = """\
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained(ORIGINAL)
draft = {auto}.from_pretrained(FOLDER{trust})
draft.generation_config.num_assistant_tokens = DRAFTED
draft.generation_config.num_assistant_tokens_schedule = "constant"
draft.generation_config.assistant_confidence_threshold = 0.0
tokenizer = AutoTokenizer.from_pretrained(ORIGINAL)
inputs = tokenizer("The capital of France is", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, assistant_model=draft, do_sample=False)[0]))"""

_ADAPTER = """

from peft import PeftModel

model = PeftModel.from_pretrained(model, FOLDER/adapter)"""

_LOADED = ("python", _TRANSFORMERS)
_SERVED = ("bash", "vllm serve FOLDER{trust}")
_COMMANDS = {
    "transformers": [_LOADED, _SERVED],
    "transformers-zeroed": [_LOADED, _SERVED],
    "transformers-skip": [_LOADED],
    "pruned-remote-code": [
        _LOADED,
        ("bash", "vllm serve FOLDER{trust} --model-impl transformers"),
        ("bash", "python -m sglang.launch_server --model-path FOLDER{trust} --model-impl transformers"),
    ],
    "deci": [
        _SERVED,
        ("bash", "python -m sglang.launch_server --model-path FOLDER{trust}"),
        ("bash", "mlx_lm.generate --model FOLDER --prompt 'The capital of France is'"),
        _LOADED,
    ],
    "gguf": [
        ("bash", "llama-cli -m FOLDER/model.gguf -p 'The capital of France is'"),
        ("bash", "llama-server -m FOLDER/model.gguf"),
        ("python", "from llama_cpp import Llama\n\nmodel = Llama(FOLDER/model.gguf)"),
    ],
    "adapter": [("python", _TRANSFORMERS + _ADAPTER)],
    "draft": [
        ("python", _DRAFTING),
        ("bash", "vllm serve ORIGINAL{trust} --speculative-config SPECULATIVE"),
    ],
    "draft-gguf": [("bash", "llama-server -m ORIGINAL.gguf -md FOLDER/model.gguf")],
    "mergekit": [("bash", "mergekit-yaml FOLDER/mergekit.yaml OUT")],
    "recipe": [("bash", "python -m explorer export --recipe FOLDER/recipe.json --out OUT")],
}


def make_commands(target: Format, folder: str, original: str = "ORIGINAL", drafted: int = 5) -> list[tuple[str, str]]:
    """Return (language, code) for each way to load an export from a folder, quoted as the language wants it.

    Args:
        target: what was written.
        folder: where.
        original: the model that a draft is for.
        drafted: tokens that it drafts at once.
    """
    helping = {"model": folder, "method": "draft_model", "num_speculative_tokens": drafted}
    words = {"ORIGINAL": original, "SPECULATIVE": json.dumps(helping, ensure_ascii=False), "DRAFTED": drafted}
    return [
        (language, _fill_in(_name(code, language, target), {"FOLDER": folder, **words}, _QUOTES[language]))
        for language, code in _COMMANDS[target.kind]
        if not any(program in code for program in target.refusing)
    ]


def _name(code: str, language: str, target: Format) -> str:
    """Put in the class that loads the model, and that its code is trusted."""
    word = {"python": ", trust_remote_code=True", "bash": " --trust-remote-code"}[language]
    return code.replace("{auto}", target.auto_class).replace("{trust}", word * target.brings_code)


_QUOTES: dict[str, Callable[[str], str]] = {"python": partial(json.dumps, ensure_ascii=False), "bash": shlex.quote}


def _fill_in(code: str, words: dict[str, Any], quote: Callable[[str], str]) -> str:
    """Put in what words in capitals stand for, a path or an ending after it included; numbers as they are."""

    def put(match: re.Match[str]) -> str:
        word = words[match[1]]
        return quote(word + (match[2] or "")) if isinstance(word, str) else str(word)

    return re.sub(rf"({'|'.join(words)})([/.][\w.]+)?", put, code)


def describe_loading(target: Format, original: str, drafted: int) -> list[list[str]]:
    """Return the same as Markdown code blocks, for the folder that one is in."""
    commands = make_commands(target, ".", original, drafted)
    return [[f"```{language}", *code.splitlines(), "```"] for language, code in commands]
