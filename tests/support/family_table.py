"""Every class of transformers' causal mapping, and the image-text ones -> docs/families.md: what works, one line each.

`python -m tests.support.family_table > lines.jsonl` makes a tiny random model of each in a process of its own, holds
what the library does with it to plain transformers, and prints a line as JSON; with names, of those only.
`python -m tests.support.family_table --write lines.jsonl` makes the page of such lines.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from explorer.errors import ExplorerError
from explorer.evaluation.generation import generate
from explorer.export import export
from explorer.masks.mask import Mask, Site
from explorer.measures.similarity import measure_similarity
from explorer.model.auto_class import find_auto_class
from explorer.model.loading import LoadedModel, quieten_libraries
from explorer.storage.store import Store
from tests.support.every_family import CAUSAL, IMAGE_TEXT, make_config, pick_class
from tests.support.more_families import turned_off
from tests.support.tiny_models import REPOSITORY, WINDOW, load_folder, save

#: Seconds that one family may take.
LIMIT = 300
#: Checks that a family passes, in the order of the columns.
CHECKS = ("masks", "similarity", "text", "layers exported", "sites exported")
_PROMPT = "The quick brown fox"
_TOKENS = 6


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


def make_random(name: str, kind: str) -> Any:
    """Make a family's tiny model, all of whose weights differ from neutral values."""
    torch.manual_seed(0)
    model = pick_class(name, kind == "text").from_config(make_config(name)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(0.15 * noise) if parameter.dim() > 1 else parameter.add_(0.1 * noise)
    return model


def load_plain(folder: Path) -> Any:
    """Load a checkpoint with plain transformers, by the class that it declares."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    return find_auto_class(config).from_pretrained(folder, dtype=torch.float32).eval()


def pick_masks(loaded: LoadedModel) -> list[Mask]:
    """Pick masks that turn off layers of every form, and sites of every form."""
    n_layers, absent = loaded.n_layers, loaded.absent.sites
    masks = [Mask.parse(text) for text in ("0", f"{n_layers - 1}", "1-2")]
    if not loaded.architecture.whole:
        sites = [site for site in loaded.sites if site not in absent]
        forms = {(loaded.architecture.at(site.layer), site.part): site for site in reversed(sites)}
        masks += [Mask(frozenset({site})) for site in forms.values()]
        masks.append(Mask(frozenset(sites[::3])))
    return masks


def check_masks(loaded: LoadedModel) -> None:
    """Compare logits under masks to those of the plain model with the modules turned off."""
    ids, whole = torch.arange(2 * WINDOW).view(2, WINDOW) % 200, load_plain(loaded.checkpoint.folder)
    for mask in pick_masks(loaded):
        with torch.inference_mode(), loaded.wrappers.as_variant(mask):
            found = loaded.model(input_ids=ids, use_cache=False).logits
        with torch.inference_mode():
            expected = turned_off(copy.deepcopy(whole), loaded, mask)(input_ids=ids, use_cache=False).logits
        assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max()), f"logits under {mask}"


def check_similarity(loaded: LoadedModel) -> None:
    """See that the residual stream is measured, and that its last boundary differs from its first."""
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    found = measure_similarity(loaded, corpus, Store(None))
    assert all(np.isfinite(values).all() for values in found.influence.values()), "similarity is not finite"
    assert found.angular["mean"][..., -1].max() > 0, "no layer changes anything"


def check_text(loaded: LoadedModel) -> str | None:
    """Compare cached greedy text under masks to the likeliest token, again and again, without a cache.

    Of some classes transformers itself writes other text with a cache than without: then it is compared to that.
    """
    whole, own = load_plain(loaded.checkpoint.folder), False
    ids = loaded.tokenizer(_PROMPT, return_tensors="pt").input_ids
    for mask in (Mask(), *pick_masks(loaded)[:6]):
        sample = generate(loaded, mask, _PROMPT, max_new_tokens=_TOKENS, temperature=0)
        plain = turned_off(copy.deepcopy(whole), loaded, mask)
        if not _is_likeliest(plain, ids, sample.token_ids):
            with torch.inference_mode():
                cached = plain.generate(ids, max_new_tokens=_TOKENS, do_sample=False)[0, ids.shape[1] :]
            assert tuple(cached.tolist()) == sample.token_ids, f"text under {mask}"
            own = True
    return "as transformers writes it with a cache, which is not what it writes without" if own else None


@torch.inference_mode()
def _is_likeliest(plain: Any, ids: Int[Tensor, "1 tokens"], written: Sequence[int]) -> bool:
    """Tell whether each token written is the likeliest one, without a cache."""
    for token in written:
        logits = plain(input_ids=ids, use_cache=False).logits[0, -1]
        if logits.max() - logits[token] > 1e-4 * logits.abs().max():
            return False
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return True


def check_layers_exported(loaded: LoadedModel) -> None:
    """Write a checkpoint without a layer, reload it plainly and compare."""
    _check_export(loaded, Mask.parse("1"), "transformers")


def check_sites_exported(loaded: LoadedModel) -> None:
    """Write a checkpoint with a site zeroed, reload it plainly and compare."""
    site = next(site for site in reversed(loaded.sites[2:]) if site not in loaded.absent.sites)
    _check_export(loaded, Mask(frozenset({Site(site.layer, site.part)})), "transformers-zeroed")


def _check_export(loaded: LoadedModel, mask: Mask, format: str) -> None:
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    with tempfile.TemporaryDirectory() as parent:
        export(loaded, mask, Path(parent) / "out", corpus, Store(None), format=format)
        ids = torch.from_numpy(corpus.held_out.ids)
        with torch.inference_mode():
            found = load_plain(Path(parent) / "out")(input_ids=ids, use_cache=False).logits
            plain = turned_off(load_plain(loaded.checkpoint.folder), loaded, mask)
            expected = plain(input_ids=ids, use_cache=False).logits
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max()), f"export of {mask}"


_RUN: dict[str, Callable[[LoadedModel], str | None]] = dict(
    zip(CHECKS, (check_masks, check_similarity, check_text, check_layers_exported, check_sites_exported), strict=True)
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
logits under masks, similarity, text with a cache, and what is exported.

*full*: layers, attention and MLPs can go. *layers*: only whole layers can, for a layer is not its input plus what its
modules add. *refused*: with the line that says why. *not made*: the harness could not make a tiny model.
*not examined*: no line was given for it.

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
    return _HEAD + "\n".join(rows) + "\n"


def main(names: list[str]) -> None:
    """Examine families and print their lines as JSON, or write the page of such lines."""
    if names[:1] == ["--write"]:
        texts = [text for name in names[1:] for text in Path(name).read_text(encoding="utf-8").splitlines()]
        every = [*(Line(name, "text", "not examined") for name in CAUSAL)]
        every += [Line(name, "images", "not examined") for name in IMAGE_TEXT]
        every += [Line(**json.loads(text)) for text in texts]
        lines = {(line.kind == "images", line.name): line for line in every}
        (REPOSITORY / "docs" / "families.md").write_text(write_page([lines[key] for key in sorted(lines)]))
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
