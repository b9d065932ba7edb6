"""Every class of transformers' causal mapping, and the image-text ones -> docs/families.md: what works, one line each.

`python -m tests.support.family_table > lines.jsonl` makes a tiny random model of each in a process of its own, holds
what the library does with it to plain transformers, and prints a line as JSON; with names, of those only.
`python -m tests.support.family_table --write lines.jsonl` makes the page of such lines; rows of others stay.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from explorer.errors import ExplorerError
from explorer.model.loading import LoadedModel, quieten_libraries
from tests.support.every_family import CAUSAL, IMAGE_TEXT
from tests.support.family_checks import (
    check_cache,
    check_code_exported,
    check_layers_exported,
    check_masks,
    check_padding,
    check_similarity,
    check_sites_exported,
    check_text,
    make_random,
)
from tests.support.tiny_models import REPOSITORY, load_folder, save

#: Seconds that one family may take.
LIMIT = 300
#: Checks that a family passes, in the order of the columns.
CHECKS = ("masks", "similarity", "text", "batches", "cache", "layers exported", "sites exported", "code exported")


@dataclass
class Line:
    """What works of one family.

    Args:
        name: its model type.
        kind: `text` or `images`.
        mode: `full`, `layers`, `refused`, or `error`.
        why: the program's own line, where it is not full.
        found: of each check `yes`, or the line in which it was refused; a wrong number starts with `WRONG`.
    """

    name: str
    kind: str
    mode: str = "error"
    why: str = ""
    found: dict[str, str] = field(default_factory=dict)


_RUN: dict[str, Callable[[LoadedModel], str | None]] = dict(
    zip(
        CHECKS,
        (
            check_masks,
            check_similarity,
            check_text,
            check_padding,
            check_cache,
            check_layers_exported,
            check_sites_exported,
            check_code_exported,
        ),
        strict=True,
    )
)


def examine(name: str, kind: str, folder: Path) -> Line:
    """Load a family's tiny model and run every check."""
    line = Line(name, kind)
    try:
        save(make_random(name, kind), folder)
    except Exception as error:  # configs of every family
        line.mode, line.why = "not made", _first(error)
        return line
    try:
        loaded = load_folder(folder)
    except ExplorerError as error:
        line.mode, line.why = "refused", f"{error.what}: {error.found}"
        return line
    line.mode, line.why = ("layers", loaded.architecture.whole) if loaded.architecture.whole else ("full", "")
    for check, run in _RUN.items():
        if check == "sites exported" and loaded.architecture.whole:
            continue
        try:
            line.found[check] = run(loaded) or "yes"
        except ExplorerError as error:
            line.found[check] = f"{error.what}: {error.found}"
        except AssertionError as error:
            line.found[check] = f"WRONG {_first(error)}"
        except Exception as error:
            line.found[check] = f"TRACEBACK {_first(error)} ({_place(error)})"
    return line


def _first(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def _place(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def examine_apart(name: str, kind: str) -> Line:
    """Examine a family in a process of its own, for so long at most."""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory() as parent:
        child = os.fork()
        if child == 0:
            signal.alarm(LIMIT)
            try:
                line = examine(name, kind, Path(parent) / "model")
            except BaseException as error:
                line = Line(name, kind, "error", f"{_first(error)} ({_place(error)})")
            os.write(write, json.dumps(asdict(line)).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            text = pipe.read()
        os.waitpid(child, 0)
    return Line(**json.loads(text)) if text else Line(name, kind, "error", "it took too long, or crashed")


_HEAD = """# Families

What works of each class of transformers' causal mapping, and of image-text ones, whose language model is measured.
Written by `tests/support/family_table.py`, which makes a tiny random model of each and holds it to plain transformers:
logits under masks, similarity, text with a cache, text of batches padded on the left, and what is exported: without
layers, with sites zeroed, and with code that leaves sites out.

*full*: layers, attention and MLPs can go. *layers*: only whole layers can, for a layer is not its input plus what its
modules add. *refused*: with the line that says why. *not made*: the harness could not make a tiny model.
*not examined*: no line was given for it. A layer whose keys and values later ones read runs on for those where it is
off, and no checkpoint is written without it.

*batches: as transformers writes them, which is not what it writes alone*: the plain class sees what is padded, and this
program does not change that. RWKV makes no use of an attention mask: its state takes in padded tokens like any others.
The decoders of Bart and its kin count them in their positions. There, write texts one by one.

{summary}

| model type | of | works | but |
|---|---|---|---|
"""


def write_page(lines: list[Line]) -> str:
    """Return docs/families.md of the lines, in their order."""
    rows = []
    for line in lines:
        left = [f"{check}: {found}" for check, found in line.found.items() if found != "yes"]
        said = "; ".join([*([line.why] if line.why else []), *left]).replace("|", "/")
        rows.append(f"| {line.name} | {line.kind} | {line.mode} | {said} |")
    return _HEAD.replace("{summary}", summarize(lines)) + "\n".join(rows) + "\n"


def read_page(text: str) -> list[Line]:
    """Return the lines that a page was made of."""
    lines = []
    for name, kind, mode, said in re.findall(r"^\| (\S+) \| (text|images) \| (.+?) \| (.*) \|$", text, re.MULTILINE):
        why, *left = re.split(rf"(?:^|; )({'|'.join(CHECKS)}): ", said)
        ran = [check for check in CHECKS if mode == "full" or (mode == "layers" and check != "sites exported")]
        found = dict.fromkeys(ran, "yes") | dict(zip(left[::2], left[1::2], strict=True))
        lines.append(Line(name, kind, mode, why, found))
    return lines


def summarize(lines: list[Line]) -> str:
    """Say how many families work how, and how many of those that work pass each check with nothing to be said."""
    modes = Counter(line.mode for line in lines)
    working = [line for line in lines if line.mode in ("full", "layers")]
    passed = {
        check: (sum(found == "yes" for found in ran), len(ran))
        for check in CHECKS
        if (ran := [line.found[check] for line in working if check in line.found])
    }
    counted = ", ".join(f"{check} {count} of {ran}" for check, (count, ran) in passed.items())
    return (
        f"Of {len(lines)}: {', '.join(f'{count} {mode}' for mode, count in modes.most_common())}.\n"
        f"Passed with nothing to be said: {counted}."
    )


def main(names: list[str]) -> None:
    """Examine families and print their lines as JSON, or write the page of such lines."""
    if names[:1] == ["--write"]:
        page = REPOSITORY / "docs" / "families.md"
        texts = [text for name in names[1:] for text in Path(name).read_text(encoding="utf-8").splitlines()]
        every = [*(Line(name, "text", "not examined") for name in CAUSAL)]
        every += [Line(name, "images", "not examined") for name in IMAGE_TEXT]
        every += [*read_page(page.read_text(encoding="utf-8")), *(Line(**json.loads(text)) for text in texts)]
        lines = {(line.kind == "images", line.name): line for line in every}
        page.write_text(write_page([lines[key] for key in sorted(lines)]), encoding="utf-8")
        return
    warnings.simplefilter("ignore")
    quieten_libraries()
    torch.set_num_threads(1)
    every = [(name, "text") for name in sorted(CAUSAL)] + [(name, "images") for name in IMAGE_TEXT]
    for name, kind in every:
        if not names or f"{kind}:{name}" in names or name in names:
            print(json.dumps(asdict(examine_apart(name, kind))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
