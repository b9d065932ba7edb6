"""config.json as it has to be: type and range of every field that is read, checked before transformers reads it.

What the table below lacks is left to transformers. Null stands for what is not given, but for the number of layers.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from explorer.errors import ModelError
from explorer.read_back import describe_first

#: Layers of a model at the most: the deepest that was ever trained has a thousand.
MOST_LAYERS = 1024

_Name = Annotated[str, Field(max_length=200)]
_Layers = Annotated[int, Field(ge=1, le=MOST_LAYERS)]
_Size = Annotated[int, Field(ge=1, le=1 << 24)]
_Count = Annotated[int, Field(ge=0, le=1 << 31)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Each = TypeVar("_Each")
_OneOrEach: TypeAlias = _Each | list[_Each | None]  # some families give one for each layer


class _Fields(BaseModel):
    """The fields; a multimodal model's decoder has its own in `text_config`."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model_type: _Name | None = None
    architectures: list[_Name] | None = None
    auto_map: dict[str, Any] | None = None
    text_config: _Fields | None = None
    quantization_config: dict[str, Any] | None = None
    dtype: _Name | dict[str, _Name] | None = None
    torch_dtype: _Name | dict[str, _Name] | None = None

    num_hidden_layers: _Layers = 1
    n_layer: _Layers | None = None
    n_layers: _Layers | None = None
    num_layers: _Layers | None = None
    decoder_layers: _Layers | None = None
    layer_types: list[_Name] | None = None

    hidden_size: _Size | None = None
    n_embd: _Size | None = None
    d_model: _Size | None = None
    vocab_size: _Size | None = None
    intermediate_size: _OneOrEach[_Size] | None = None
    moe_intermediate_size: _OneOrEach[_Count] | None = None
    ffn_dim: _Size | None = None
    num_attention_heads: _OneOrEach[_Count] | None = None
    num_key_value_heads: _OneOrEach[_Count] | None = None
    n_head: _Size | None = None
    head_dim: _OneOrEach[_Count] | None = None  # 0: what is rotated, where nothing is
    num_experts: _OneOrEach[_Count] | None = None
    num_local_experts: _OneOrEach[_Count] | None = None
    num_experts_per_tok: _OneOrEach[_Count] | None = None

    max_position_embeddings: _Count | None = None
    n_positions: _Count | None = None
    sliding_window: _OneOrEach[_Count] | None = None
    rope_theta: _Positive | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    rms_norm_eps: _Finite | None = None
    layer_norm_eps: _Finite | None = None
    layer_norm_epsilon: _Finite | None = None
    initializer_range: _Finite | None = None
    tie_word_embeddings: bool | None = None
    use_cache: bool | None = None
    bos_token_id: _OneOrEach[int] | None = None
    eos_token_id: _OneOrEach[int] | None = None
    pad_token_id: _OneOrEach[int] | None = None


def check_config(config: Any) -> dict[str, Any]:
    """Return what config.json holds. Raises ModelError at a field whose type or range is wrong."""
    if not isinstance(config, dict):
        raise ModelError("Cannot read config.json", "it is not an object", "Copy it again")
    try:
        _Fields.model_validate(config)
    except ValidationError as error:
        raise ModelError(
            "Cannot use config.json", describe_first(error, config), "Correct it, or copy it again"
        ) from None
    return config


def check_size(config: dict[str, Any], stored: int) -> None:
    """Raise ModelError if the config asks for far more weights than the files hold, before memory is asked for them.

    Args:
        config: of a right form.
        stored: bytes of the weights.
    """
    fields = _Fields.model_validate(config)
    fields = fields.text_config or fields
    width = fields.hidden_size or fields.n_embd or fields.d_model or 1
    inner = fields.intermediate_size if isinstance(fields.intermediate_size, int) else 1
    for what, size in (
        ("vocab_size x hidden_size", (fields.vocab_size or 1) * width),
        ("num_hidden_layers x hidden_size x intermediate_size", fields.num_hidden_layers * width * inner),
    ):
        if size > _PER_BYTE * stored:
            found = f"{what} is {size:,}, and the weights have {stored:,} bytes"
            raise ModelError("Weights do not fit the config", found, "Correct config.json, or copy the weights again")


_PER_BYTE = 2  # weights: those in 4 bits
