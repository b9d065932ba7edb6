"""A verb of the command line, run on a tiny model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from explorer.cli import main
from tests.support.tiny_models import WINDOW, Tiny

Command = Callable[..., Any]


@pytest.fixture
def run(tiny: Tiny, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a verb in this process: return its JSON, or with `bad` its one line on stderr."""

    def command(verb: str, *words: str, bad: bool = False, family: str = "llama") -> Any:
        model = ["--model", str(tiny.folder(family)), "--dtype", "float32", "--device", "cpu", "--json"]
        size = ["--window", str(WINDOW), "--tokens", str(4 * WINDOW), "--cache", str(tmp_path / "cache")]
        monkeypatch.setattr(sys, "argv", ["explorer", verb, *model, *size, *words])
        capfd.readouterr()  # what making the tiny model wrote
        with pytest.raises(SystemExit) as exit_:
            main()
        found = capfd.readouterr()
        assert exit_.value.code == (2 if bad else 0), found.err
        if bad:
            (line,) = found.err.splitlines()
            assert (found.out, "Traceback" in line) == ("", False)
            return line
        assert found.err == ""
        return json.loads(found.out)

    return command
