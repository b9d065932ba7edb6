"""Format -> how to load it, command by command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from functools import partial

from explorer.export.formats import Format

_TRANSFORMERS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(FOLDER{trust})
tokenizer = AutoTokenizer.from_pretrained(FOLDER{trust})"""

_ADAPTER = """

from peft import PeftModel

model = PeftModel.from_pretrained(model, FOLDER/adapter)"""

_PLAIN = [("python", _TRANSFORMERS.format(trust="")), ("bash", "vllm serve FOLDER")]
_TRUSTING = ("python", _TRANSFORMERS.format(trust=", trust_remote_code=True"))
_COMMANDS = {
    "transformers": _PLAIN,
    "transformers-zeroed": _PLAIN,
    "pruned-remote-code": [
        _TRUSTING,
        ("bash", "vllm serve FOLDER --trust-remote-code --model-impl transformers"),
        ("bash", "python -m sglang.launch_server --model-path FOLDER --trust-remote-code --model-impl transformers"),
    ],
    "deci": [
        ("bash", "vllm serve FOLDER --trust-remote-code"),
        ("bash", "python -m sglang.launch_server --model-path FOLDER --trust-remote-code"),
        ("bash", "mlx_lm.generate --model FOLDER --prompt 'The capital of France is'"),
        _TRUSTING,
    ],
    "gguf": [
        ("bash", "llama-cli -m FOLDER/model.gguf -p 'The capital of France is'"),
        ("bash", "llama-server -m FOLDER/model.gguf"),
        ("python", "from llama_cpp import Llama\n\nmodel = Llama(FOLDER/model.gguf)"),
    ],
    "adapter": [("python", _TRANSFORMERS.format(trust="") + _ADAPTER)],
    "mergekit": [("bash", "mergekit-yaml FOLDER/mergekit.yaml OUT")],
    "recipe": [("bash", "python -m explorer export --recipe FOLDER/recipe.json --out OUT")],
}


def make_commands(target: Format, folder: str) -> list[tuple[str, str]]:
    """Return (language, code) for each way to load an export from a folder, quoted as the language wants it."""
    return [
        (language, _fill_in(code, folder, _QUOTES[language]))
        for language, code in _COMMANDS[target.kind]
        if not any(program in code for program in target.refusing)
    ]


_QUOTES: dict[str, Callable[[str], str]] = {"python": partial(json.dumps, ensure_ascii=False), "bash": shlex.quote}


def _fill_in(code: str, folder: str, quote: Callable[[str], str]) -> str:
    return re.sub(r"FOLDER(/[\w.]+)?", lambda match: quote(folder + (match[1] or "")), code)


def describe_loading(target: Format) -> list[list[str]]:
    """Return the same as Markdown code blocks, for the folder that one is in."""
    return [[f"```{language}", *code.splitlines(), "```"] for language, code in make_commands(target, ".")]
