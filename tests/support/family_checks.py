"""What the library does with a tiny model of any family, held to plain transformers: one check each."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

from explorer.evaluation.generation import generate, takes_cache
from explorer.export import export
from explorer.masks.mask import Mask, Site
from explorer.measures.similarity import measure_similarity
from explorer.model.auto_class import find_auto_class
from explorer.model.kv_cache import measure_cache
from explorer.model.loading import LoadedModel
from explorer.model.module_calls import refusing_failures
from explorer.model.parameter_counts import count_parameters
from explorer.storage.store import Store
from tests.support.every_family import make_config, pick_class
from tests.support.more_families import turned_off
from tests.support.tiny_models import WINDOW

_PROMPT = "The quick brown fox"
_TOKENS = 6
_LENGTHS = (20, 13, 18)  # of prompts in a batch; two are longer than the windows of attention


def make_random(name: str, kind: str) -> Any:
    """Make a family's tiny model, all of whose weights differ from neutral values."""
    torch.manual_seed(0)
    model = pick_class(name, kind == "text").from_config(make_config(name)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(0.15 * noise) if parameter.dim() > 1 else parameter.add_(0.1 * noise)
    return model


def load_plain(folder: Path, trusted: bool = False) -> Any:
    """Load a checkpoint with plain transformers, by the class that it declares, or by code of its own."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trusted)
    made = find_auto_class(config)
    return made.from_pretrained(folder, dtype=torch.float32, trust_remote_code=trusted).eval()


def pick_masks(loaded: LoadedModel) -> list[Mask]:
    """Pick masks that turn off layers of every form, and sites of every form."""
    n_layers, absent = loaded.n_layers, loaded.absent.sites
    masks = [Mask.parse(text) for text in ("0", f"{n_layers - 1}", "1-2")]
    if loaded.architecture.hands_on:
        masks.append(Mask.of_layers(loaded.architecture.hands_on))
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
def check_padding(loaded: LoadedModel) -> str | None:
    """Compare cached greedy text of prompts in one batch, padded on the left, to each row's likeliest tokens alone.

    It is always what the plain model writes of that batch. Some classes of transformers see what is padded.
    """
    whole, sees = load_plain(loaded.checkpoint.folder), False
    rows = [torch.arange(length) * (7 + length) % 240 + 2 for length in _LENGTHS]
    width = max(_LENGTHS)
    ids = torch.stack([torch.cat([torch.zeros(width - len(row), dtype=torch.long), row]) for row in rows])
    given: dict[str, Any] = {
        "attention_mask": torch.stack([torch.arange(width) >= width - len(row) for row in rows]).long(),
        "generation_config": GenerationConfig(
            max_new_tokens=_TOKENS, do_sample=False, use_cache=takes_cache(loaded), pad_token_id=0, eos_token_id=10**6
        ),
    }
    whole.generation_config = loaded.model.generation_config
    attention = Mask(frozenset(site for site in loaded.sites if site.part == "attention"))
    most = Mask.parse(f"0-{loaded.n_layers - 2}") if loaded.architecture.whole else loaded.completed(attention)
    for mask in (Mask(), *pick_masks(loaded)[:6], most):
        plain = turned_off(copy.deepcopy(whole), loaded, mask)
        with refusing_failures(plain, "The model does not write", "Score it only"):
            expected = plain.generate(ids, **given)[:, width:]
        with loaded.wrappers.as_variant(mask):
            found = loaded.model.generate(ids, **given)[:, width:]
        assert torch.equal(found, expected), f"text of a batch under {mask}"
        sees |= not all(_is_likeliest(plain, row[None], own) for row, own in zip(rows, found.tolist(), strict=True))
    return "as transformers writes them, which is not what it writes alone" if sees else None


@torch.inference_mode()
def _is_likeliest(plain: Any, ids: Int[Tensor, "1 tokens"], written: Sequence[int]) -> bool:
    """Tell whether each token written is the likeliest one, without a cache."""
    for token in written:
        logits = plain(input_ids=ids, use_cache=False).logits[0, -1]
        if logits.max() - logits[token] > 1e-4 * logits.abs().max():
            return False
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return True


def check_cache(loaded: LoadedModel) -> str | None:
    """Compare what a cache is said to keep, of a token and of a sequence, with what it keeps after a plain run."""
    if measure_cache(loaded.model) is None:
        return "counted by the names in its config, for it cannot be asked"
    model = load_plain(loaded.checkpoint.folder)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(input_ids=torch.arange(_TOKENS)[None], past_key_values=cache, use_cache=True)
    of_tokens, of_sequence = (
        [tensor for layer in cache.layers for name in names for tensor in _list_tensors(getattr(layer, name, None))]
        for names in (("keys", "values", "indexer_keys"), ("conv_states", "recurrent_states"))
    )
    costs = count_parameters(loaded.model, loaded.architecture).costs(Mask(), WINDOW)
    assert costs.kv_bytes_per_token * _TOKENS == sum(each.nbytes for each in of_tokens), "bytes of a token"
    assert costs.state_bytes_per_sequence == sum(each.nbytes for each in of_sequence), "bytes of a sequence"
    return None


def _list_tensors(held: Any) -> list[Tensor]:
    return [each for each in (held.values() if isinstance(held, dict) else [held]) if isinstance(each, Tensor)]


def check_layers_exported(loaded: LoadedModel) -> None:
    """Write a checkpoint without a layer, reload it plainly and compare."""
    _check_export(loaded, Mask.parse("1"), "transformers")


def check_sites_exported(loaded: LoadedModel) -> None:
    """Write a checkpoint with a site of every form zeroed, reload it plainly and compare."""
    _check_export(loaded, _pick_sites(loaded), "transformers-zeroed")


def check_code_exported(loaded: LoadedModel) -> None:
    """Write a checkpoint whose code leaves a site of every form out, reload it plainly and compare, text too."""
    mask = Mask.parse("1") if loaded.architecture.whole else _pick_sites(loaded)
    corpus = loaded.tokenize("python-docs", 2 * WINDOW, WINDOW)
    with tempfile.TemporaryDirectory() as parent:
        export(loaded, mask, Path(parent) / "out", corpus, Store(None), format="pruned-remote-code")
        compare_code(loaded, mask, Path(parent) / "out", torch.from_numpy(corpus.held_out.ids))


@torch.inference_mode()
def compare_code(loaded: LoadedModel, mask: Mask, folder: Path, ids: Int[Tensor, "batch window"]) -> Any:
    """Compare what the code in a folder makes, text with a cache too, to the plain model; return that."""
    again, plain = load_plain(folder, True), turned_off(load_plain(loaded.checkpoint.folder), loaded, mask)
    found, expected = (each(input_ids=ids, use_cache=False).logits for each in (again, plain))
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max()), f"code of {mask}"
    texts = [
        each.generate(ids[:1], max_new_tokens=_TOKENS, min_new_tokens=_TOKENS, do_sample=False, pad_token_id=0)
        for each in (again, plain)
    ]
    assert torch.equal(*texts), f"text of {mask} by its code"
    return again


def _pick_sites(loaded: LoadedModel) -> Mask:
    """Pick an attention of every form, the first one, and an MLP of every form, the last one; no layer of both."""
    there = [site for site in loaded.sites if site not in loaded.absent.sites]
    ordered = [site for site in reversed(there) if site.part == "attention"] + [s for s in there if s.part == "mlp"]
    picked = set({(loaded.architecture.at(site.layer), site.part): site for site in ordered}.values())
    both = {Site(site.layer, "mlp") for site in picked if site.part == "attention"}
    return loaded.completed(Mask(frozenset(picked - both)))


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


def read_bytes(folder: Path) -> dict[str, tuple[Any, bytes]]:
    """Return the tensors of a folder's files: what the header says of each, and its bytes."""
    found: dict[str, tuple[Any, bytes]] = {}
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = (start + offset for offset in entry["data_offsets"])
            found[name] = ((entry["dtype"], entry["shape"]), data[begin:end])
    return found
