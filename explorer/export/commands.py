"""Format -> how to load it, command by command; FOLDER stands for where it lies."""

from __future__ import annotations

_TRANSFORMERS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER"{trust})
tokenizer = AutoTokenizer.from_pretrained("FOLDER"{trust})"""

_COMMANDS = {
    "transformers": [("python", _TRANSFORMERS.format(trust="")), ("bash", "vllm serve FOLDER")],
    "pruned-remote-code": [("python", _TRANSFORMERS.format(trust=", trust_remote_code=True"))],
    "deci": [
        ("python", _TRANSFORMERS.format(trust=", trust_remote_code=True")),
        ("bash", "vllm serve FOLDER --trust-remote-code"),
        ("bash", "python -m sglang.launch_server --model-path FOLDER --trust-remote-code"),
        ("bash", "mlx_lm.generate --model FOLDER --prompt 'The capital of France is'"),
    ],
    "gguf": [
        ("bash", "llama-cli -m FOLDER/model.gguf -p 'The capital of France is'"),
        ("bash", "llama-server -m FOLDER/model.gguf"),
        ("python", 'from llama_cpp import Llama\n\nmodel = Llama("FOLDER/model.gguf")'),
    ],
    "mergekit": [("bash", "mergekit-yaml FOLDER/mergekit.yaml OUT")],
    "recipe": [("bash", "python -m explorer export --recipe FOLDER/recipe.json --out OUT")],
}
_COMMANDS["transformers-zeroed"] = _COMMANDS["transformers"]


def make_commands(kind: str, folder: str) -> list[tuple[str, str]]:
    """Return (language, code) for each way to load a format from a folder."""
    return [(language, code.replace("FOLDER", folder)) for language, code in _COMMANDS[kind]]


def describe_loading(kind: str) -> list[list[str]]:
    """Return the same as Markdown code blocks, for this folder."""
    return [[f"```{language}", *code.splitlines(), "```"] for language, code in make_commands(kind, ".")]
