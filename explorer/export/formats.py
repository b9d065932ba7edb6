"""The targets of an export: what each drops, what it zeroes, and who can load it."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.errors import ExportError
from explorer.masks import Mask


@dataclass(frozen=True)
class Format:
    """A target, in the words that its card, its page and its documentation share.

    Args:
        name: as written after --format.
        dropped: what is not written.
        zeroed: what is written as zeros.
        loads: which programs load it.
        cache: for what they keep no keys and values.
        blocks: for a gguf, the type that weights are written in; empty for that of the source.
        dtype: for the others, the dtype that weights are written in, or `auto`.
        refusing: programs that load the format, as they are called, but not this export.
        written_in: for a draft, the format that its files have.
        auto_class: name of transformers' class that loads the model.
    """

    name: str
    dropped: str
    zeroed: str
    loads: str
    cache: str = ""
    blocks: str = ""
    dtype: str = "auto"
    refusing: tuple[str, ...] = ()
    written_in: str = ""
    auto_class: str = "AutoModelForCausalLM"

    @property
    def kind(self) -> str:
        """The name without the type of its blocks."""
        return self.name.partition("-")[0] if self.name.startswith("gguf") else self.name

    @property
    def brings_code(self) -> bool:
        """Whether transformers runs code of the folder to load it."""
        return bool({self.name, self.written_in} & {"deci", "pruned-remote-code"})


_GGUF_DROPPED = "whole layers; single attention and MLPs of Llama-like models, which are then written as `deci`"
_GGUF_ZEROED = "a tiny MLP of 32 rows for every MLP that is off, and a tiny attention if it is off in the first layer"
_LLAMA_CPP = "llama.cpp and what is built on it"
_WHOLE = "whole layers that are off; attention that is written as zeros keeps its own"
_GGUF = "whole layers and attention that are off; in the first layer one head keeps its own"

FORMATS = {
    made.name: made
    for made in (
        Format(
            "transformers",
            "whole layers; nothing else may be off",
            "nothing",
            "whatever loads the original: transformers, PEFT, vLLM, SGLang, MLX",
            "whole layers that are off",
        ),
        Format(
            "transformers-zeroed",
            "whole layers",
            "the output projections of attention and MLPs that are off in layers that stay: no memory and no compute "
            "is saved for them",
            "whatever loads the original: transformers, PEFT, vLLM, SGLang, MLX",
            _WHOLE,
        ),
        Format(
            "deci",
            "whole layers, attention and MLPs that are off, with the norm before each",
            "the output projection of attention that is off in the first layer that stays",
            "vLLM, SGLang and mlx-lm, which have the architecture nemotron-nas; transformers and PEFT with "
            "trust_remote_code",
            "whole layers and attention that are off, but for the first layer that stays",
        ),
        Format(
            "pruned-remote-code",
            "whole layers, attention and MLPs that are off",
            "nothing",
            "transformers and PEFT with trust_remote_code, by two small files over the family's own class; vLLM and "
            "SGLang by way of transformers",
            "whole layers that are off; in transformers none but two numbers a token for attention that is off",
        ),
        Format(
            "transformers-skip",
            "whole layers, attention and MLPs that are off",
            "nothing",
            "transformers, from a version on that leaves out what `per_layer_config` skips",
            "whole layers and attention that are off",
        ),
        Format("gguf", _GGUF_DROPPED, _GGUF_ZEROED, _LLAMA_CPP, _GGUF),
        *(
            Format(f"gguf-{blocks}", _GGUF_DROPPED, _GGUF_ZEROED, _LLAMA_CPP, _GGUF, blocks)
            for blocks in ("f16", "bf16", "q8_0")
        ),
        Format(
            "adapter",
            "what the same without its adapter does not write: whole layers, or more where that format is another",
            "what that format does",
            "PEFT, over the checkpoint that is written with it",
            "what that format does",
        ),
        Format(
            "draft",
            "whole layers, attention and MLPs that are off",
            "nothing, but what deci does where it is written as that",
            "transformers' assisted generation and vLLM, beside the original",
            "what the format does that it is written as",
        ),
        Format("draft-gguf", _GGUF_DROPPED, _GGUF_ZEROED, "llama.cpp, beside the original as a GGUF file", _GGUF),
        Format(
            "mergekit",
            "whole layers",
            "the output projections of attention and MLPs that are off in layers that stay",
            "mergekit-yaml, which writes a transformers checkpoint",
            _WHOLE,
        ),
        Format(
            "recipe",
            "nothing: no weights are written",
            "nothing",
            "this program, with export --recipe",
        ),
    )
}  # fmt: skip

#: The targets without weights of their own.
WRITTEN_AS_TEXT = ("mergekit", "recipe")


def find_format(name: str, mask: Mask, stands_in: bool = False) -> Format:
    """Return a target by name; `auto` is `transformers`, or where the mask needs it `transformers-zeroed`.

    Where something stands in for what is off it is `pruned-remote-code`, which alone has a place for that.

    Raises ExportError: no such target.
    """
    if name == "auto":
        native = "transformers" if only_whole_layers(mask) else "transformers-zeroed"
        name = "pruned-remote-code" if stands_in else native
    if name not in FORMATS:
        raise ExportError("Unknown format", repr(name), "Use auto, " + ", ".join(FORMATS))
    return FORMATS[name]


def only_whole_layers(mask: Mask) -> bool:
    """Tell whether every layer is either on or off."""
    return mask == Mask.of_layers(mask.whole_layers)
