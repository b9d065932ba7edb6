"""Layouts, config -> a config and two Python files with which transformers loads any variant, with real savings."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

import transformers

from explorer.errors import ExportError
from explorer.export.stand_in_layout import StandInLayout
from explorer.export.tensor_layout import Layout
from explorer.masks import PARTS, Site
from explorer.model import LoadedModel, find_base_type, list_auto_classes
from explorer.reading import read_text

_SHIPPED = Path(__file__).parent / "shipped"
_TOKENIZER = "tokenizer_config.json"


def dress_config(
    config: dict[str, Any], loaded: LoadedModel, layout: Layout, standing: StandInLayout
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return config.json and the Python files (name -> text) of `pruned-remote-code`.

    Raises ExportError: the model's class is not one of transformers' own.
    """
    base, base_config = map(_find_native, (type(loaded.model), type(loaded.model.config)))
    if base is None or base_config is None:
        raise ExportError(
            "No code can be written for this model",
            f"{type(loaded.model).__name__} is not a class of transformers",
            "Use --format transformers-zeroed",
        )
    architecture = loaded.architecture
    off = [site for site in sorted(layout.dropped_sites) if str(layout.new_site(site)) not in standing.sites]
    old = [Site(layer, part) for layer in layout.kept for part in PARTS]
    changed = [site for site in old if site in off or str(layout.new_site(site)) in standing.sites]
    pruned: dict[str, Any] = {
        "layers": architecture.layers,
        **{part: list(architecture.modules(part)) for part in PARTS},
        "off": [str(layout.new_site(site)) for site in off],
        "returns": {str(layout.new_site(site)): loaded.wrappers.returns(site) for site in changed},
        **_name_modules(loaded, {str(layout.new_site(site)): site for site in changed}),
        "residual_inside": architecture.residual_inside,
        **standing.entries,
    }
    model_type = find_base_type(config["model_type"])
    inner, autos = _find_inner(loaded.model), list_auto_classes(model_type, base)
    names = Names("pruned", f"Pruned{base}", f"Pruned{base_config}", f"pruned-{model_type}", inner, autos)
    code = names.write_code(base, base_config, model_type)
    return {**config, **names.entries, "pruned": pruned}, code | name_tokenizer(loaded)


def _name_modules(loaded: LoadedModel, changed: dict[str, Site]) -> dict[str, Any]:
    """Return the entries that name the modules of what goes, where layers are of several kinds or add up several.

    Of those that are added beside the last one, what they return.
    """
    modules: dict[str, list[str]] = {}
    beside: dict[str, dict[str, int]] = {}
    for new, old in changed.items():
        own = loaded.architecture.at(old.layer)
        modules[new] = list(own.modules(old.part))
        if added := [name for name in modules[new][:-1] if name in own.adds]:
            beside[new] = {name: loaded.wrappers.returns(old, name) for name in added}
    return ({"modules": modules} if loaded.architecture.each else {}) | ({"beside": beside} if beside else {})


def _find_native(made: type) -> str | None:
    """Name of the class of transformers that a class is, or, if an earlier export wrote it, that it is a child of."""
    name = made.__name__.removeprefix("Pruned")
    return name if getattr(transformers, name, None) in made.__mro__[:2] else None


def _find_inner(model: Any) -> str | None:
    """Name of the class of transformers that a model has inside, without the head; None where that is not one."""
    inner = type(model.base_model)
    return None if isinstance(model, inner) else _find_native(inner)


@dataclass(frozen=True)
class Names:
    """What the code that goes into a folder is called.

    The model type is one of its own: under a native one those who do not trust the code would get random layers.

    Args:
        base_inner: transformers' class of the model without its head, if there is one: vLLM and SGLang make such a
            model, and put attention and a head of their own to it.
        autos: transformers' classes that load the model.
    """

    module: str
    model: str
    config: str
    model_type: str
    base_inner: str | None
    autos: tuple[str, ...] = ("AutoModelForCausalLM",)

    @property
    def entries(self) -> dict[str, Any]:
        """The entries of config.json that point to the code."""
        inner = {"AutoModel": f"modeling_{self.module}.Pruned{self.base_inner}"} if self.base_inner else {}
        return {
            "architectures": [self.model],
            "model_type": self.model_type,
            "auto_map": {
                "AutoConfig": f"configuration_{self.module}.{self.config}",
                **inner,
                **dict.fromkeys(self.autos, f"modeling_{self.module}.{self.model}"),
            },
        }

    def write_code(self, base: str, base_config: str, base_model_type: str) -> dict[str, str]:
        """Return the two Python files (name -> text), over classes and model type of transformers."""
        of = asdict(self) | {"base": base, "base_config": base_config, "base_model_type": base_model_type}
        of |= {"inner": f"Pruned{self.base_inner}", "auto": self.autos[0]}

        def fill(name: str) -> str:
            return Template((_SHIPPED / f"{name}.py.txt").read_text(encoding="utf-8")).substitute(of)

        modeling = fill("modeling") + (fill("modeling_inner") if self.base_inner else "")
        configuration = f"configuration_{self.module}"
        return {f"{configuration}.py": fill(configuration), f"modeling_{self.module}.py": modeling}


def name_tokenizer(loaded: LoadedModel) -> dict[str, str]:
    """Return tokenizer_config.json with the tokenizer's class, by name -> text; nothing where it names one.

    Without it a tokenizer is looked up by the config's model type, for which the code in the folder would have to run.
    """
    path = loaded.checkpoint.folder / _TOKENIZER
    entries = json.loads(read_text(path)) if path.is_file() else {}
    made = type(loaded.tokenizer)
    if "tokenizer_class" in entries or "auto_map" in entries or getattr(transformers, made.__name__, None) is not made:
        return {}
    return {_TOKENIZER: json.dumps(entries | {"tokenizer_class": made.__name__}, indent=2) + "\n"}
