"""Layout, config -> a config and two Python files with which transformers loads any mask, with real savings."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import Any

import transformers

from explorer.errors import ExportError
from explorer.export.layout import Layout
from explorer.loading import LoadedModel
from explorer.masks import PARTS

_SHIPPED = Path(__file__).parent / "shipped"


def dress_config(config: dict[str, Any], loaded: LoadedModel, layout: Layout) -> tuple[dict[str, Any], dict[str, str]]:
    """Return config.json and the Python files (name -> text) of `pruned-remote-code`.

    Raises ExportError: the model's class is not one of transformers' own.
    """
    base, base_config = type(loaded.model).__name__, type(loaded.config).__name__
    if not all(hasattr(transformers, name) for name in (base, base_config)) or "text_config" in config:
        raise ExportError(
            "No code can be written for this model",
            f"{base} is not a plain text class of transformers",
            "Use --format transformers-zeroed",
        )
    family = loaded.family
    pruned: dict[str, Any] = {
        "layers": family.layers,
        **{part: list(family.modules(part)) for part in PARTS},
        "off": [str(layout.new_site(site)) for site in sorted(layout.dropped_sites)],
        "returns": {part: loaded.hooks.returns(part) for part in PARTS},
        "residual_inside": family.residual_inside,
    }
    model_type = f"pruned-{config['model_type']}"
    code = write_code("pruned", base, base_config, "Pruned", model_type)
    return {**config, **name_code("pruned", "Pruned", model_type), "pruned": pruned}, code


def name_code(module: str, name: str, model_type: str) -> dict[str, Any]:
    """Return the entries of config.json that point to the files.

    The model type is one of its own: under a native one those who do not trust the code would get random layers.
    """
    return {
        "architectures": [f"{name}ForCausalLM"],
        "model_type": model_type,
        "auto_map": {
            "AutoConfig": f"configuration_{module}.{name}Config",
            "AutoModelForCausalLM": f"modeling_{module}.{name}ForCausalLM",
        },
    }


def write_code(module: str, base: str, base_config: str, name: str, model_type: str) -> dict[str, str]:
    """Fill in the two shipped files."""
    values = {
        "base": base,
        "base_config": base_config,
        "name": f"{name}ForCausalLM",
        "config": f"{name}Config",
        "configuration": f"configuration_{module}",
        "model_type": model_type,
    }
    sources = {
        f"configuration_{module}.py": f"configuration_{module}.py.txt",
        f"modeling_{module}.py": "modeling.py.txt",
    }
    return {
        target: Template((_SHIPPED / source).read_text(encoding="utf-8")).substitute(values)
        for target, source in sources.items()
    }
