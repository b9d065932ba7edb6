"""Packages that an extra installs: looked for before they are imported, so that one line says which one is missing."""

from __future__ import annotations

import importlib.util

from explorer.errors import MissingExtra

#: This package, as pip knows it.
DISTRIBUTION = "layer-redundancy-explorer"

#: The module that is imported -> the extra that brings it.
EXTRAS = {
    "streamlit": "dashboard",
    "plotly": "dashboard",
    "gguf": "gguf",
    "bitsandbytes": "quantize",
    "peft": "recovery",
    "lm_eval": "evaluation",
    "ray": "ray",
}


def is_installed(module: str) -> bool:
    """Whether a top-level module can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


def tell_install(module: str) -> str:
    """Return the command that installs a module of `EXTRAS`."""
    return f"pip install '{DISTRIBUTION}[{EXTRAS[module]}]'"


def require(module: str) -> None:
    """Raise MissingExtra if a module of `EXTRAS` is not installed."""
    if not is_installed(module):
        raise MissingExtra(f"{module} is not installed", f"the extra {EXTRAS[module]!r}", f"Run {tell_install(module)}")
