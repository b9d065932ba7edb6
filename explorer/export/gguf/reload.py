"""A folder with model.gguf -> a transformers model: by transformers' reader, by this program's, or tensor by tensor.

transformers' reader leaves out what it does not know, such as biases of a Llama and all scaling of rope; such a file is
read as one that is given as a model. transformers has no class for `deci`. Such a file is read here: its tensors are
dequantized by the gguf package and put, by name and with the order of query and key rows that transformers has, into a
plain Llama made of the file's metadata. What a layer lacks is zero there. That checks every number of the file, but not
llama.cpp's reading of it.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor, dequantize
from jaxtyping import Float, Float32

from explorer.checkpoints import write_folder
from explorer.errors import ModelError, first_line
from explorer.export.gguf.model import GgufModel
from explorer.export.gguf.rope import NAME as ROPE
from explorer.model import LoadedModel, Placement, read_weights

FILE = "model.gguf"
_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def reload_natively(loaded: LoadedModel, folder: Path) -> Any:
    """Load with transformers' reader. Raises ModelError if it cannot, or finds less than a whole model."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.quantization_config import GgufConfig

    model: Any
    report: dict[str, Any]
    try:
        model, report = AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
            folder,
            gguf_file=FILE,
            dtype=loaded.model.dtype,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    except Exception as error:  # a file that does not fit fails in as many ways as it has parts
        raise ModelError("Cannot read the GGUF file", first_line(error), "Report this model's layout") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelError("The GGUF file lacks weights", missing[0], "Report this model's layout")
    return model.eval().requires_grad_(False).to(loaded.device)


def reads_natively(model: GgufModel) -> bool:
    """Tell whether transformers' reader uses all of a file."""
    biased = model.architecture == "llama" and any(tensor.name.endswith(".bias") for tensor in model.tensors)
    scaled = any(key.startswith(f"{model.architecture}.rope.scal") for key in model.fields)
    return model.architecture in ("llama", "qwen2") and not biased and not scaled


def reload_wholly(loaded: LoadedModel, folder: Path) -> Any:
    """Load with this program's reader, by way of float32 safetensors beside the folder."""
    with tempfile.TemporaryDirectory(prefix=".reload-", dir=folder.parent) as scratch:
        write_folder(folder / FILE, Path(scratch))
        return read_weights(Path(scratch), Placement(loaded.device), loaded.model.dtype)


def reload_plainly(loaded: LoadedModel, folder: Path) -> Any:
    """Read a `llama` or `deci` file into a plain Llama. Raises ModelError if a tensor does not fit."""
    from transformers import AutoModelForCausalLM

    reader = GGUFReader(folder / FILE)
    config = _make_config(reader, loaded.config)
    model = AutoModelForCausalLM.from_config(config, dtype=loaded.model.dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("model.layers."):
                parameter.zero_()
    state = model.state_dict()
    for tensor in reader.tensors:
        data = torch.from_numpy(np.array(_read(reader, tensor)))
        if tensor.name == ROPE:
            _check_factors(data, model)
        name = _name(tensor.name)
        if name is None or (data.shape != state[name].shape and not data.any()):
            continue  # the zeros that stand for what is off
        if data.shape != state[name].shape:
            raise ModelError("The GGUF file does not fit its metadata", tensor.name, "Report this model's layout")
        state[name].copy_(data)
    return model.eval().requires_grad_(False).to(loaded.device)


def _value(reader: GGUFReader, name: str, default: Any = None) -> Any:
    architecture = reader.get_field("general.architecture")
    field = reader.get_field(f"{architecture.contents() if architecture else ''}.{name}")
    return default if field is None else field.contents()


def _values(reader: GGUFReader, name: str) -> list[int]:
    """Return a value for each layer, whether the file has a list of them or one for all."""
    value = _value(reader, name)
    return value if isinstance(value, list) else [value] * _value(reader, "block_count")


def _head_width(reader: GGUFReader) -> int:
    return _value(reader, "attention.key_length") or _value(reader, "rope.dimension_count")


def _check_factors(factors: Float[torch.Tensor, " frequencies"], model: Any) -> None:
    """See that the file scales rotary frequencies as transformers does."""
    found = model.model.rotary_emb.inv_freq.cpu()
    width, theta = 2 * len(found), model.config.rope_parameters["rope_theta"]
    plain = theta ** -(torch.arange(0, width, 2) / width)
    if not torch.allclose(plain / factors, found, rtol=1e-4):
        raise ModelError("The GGUF file scales its rope otherwise", ROPE, "Report this model's layout")


def _make_config(reader: GGUFReader, original: Any) -> Any:
    """Make a Llama's config of the file's metadata; what kind of rope scaling it has is the original's."""
    from transformers import LlamaConfig

    heads = _values(reader, "attention.head_count")
    whole = max(range(len(heads)), key=lambda layer: heads[layer])
    names = {tensor.name for tensor in reader.tensors}
    return LlamaConfig(
        vocab_size=original.vocab_size,
        hidden_size=_value(reader, "embedding_length"),
        intermediate_size=max(_values(reader, "feed_forward_length")),
        num_hidden_layers=_value(reader, "block_count"),
        num_attention_heads=heads[whole],
        num_key_value_heads=_values(reader, "attention.head_count_kv")[whole],
        head_dim=_head_width(reader),
        max_position_embeddings=_value(reader, "context_length"),
        rms_norm_eps=_value(reader, "attention.layer_norm_rms_epsilon"),
        rope_parameters={**original.rope_parameters, "rope_theta": _value(reader, "rope.freq_base", 10000.0)},
        tie_word_embeddings="output.weight" not in names,
        attention_bias=any(name.endswith("attn_q.bias") for name in names),
    )


def _name(name: str) -> str | None:
    if match := re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name):
        return f"model.layers.{match[1]}.{_NAMES[match[2]]}.{match[3]}"
    stem = name.removesuffix(".weight")
    return f"{_WHOLE[stem]}.weight" if stem in _WHOLE else None


def _read(reader: GGUFReader, tensor: ReaderTensor) -> Float32[np.ndarray, " ..."]:
    """Return a tensor's numbers, with query and key rows in transformers' order."""
    data = dequantize(tensor.data, tensor.tensor_type)
    if not re.search(r"attn_[qk]\.", tensor.name):
        return data
    heads = data.shape[0] // _head_width(reader)
    return data.reshape(heads, -1, 2, *data.shape[1:]).swapaxes(1, 2).reshape(data.shape)
