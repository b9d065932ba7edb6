"""Specs, places, deltas, files and variants: what is written is read, and what does not fit is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from explorer.deltas.delta import Delta, Origin
from explorer.deltas.delta_file import read_delta, write_delta
from explorer.deltas.modifier_spec import ModifierSpec, read_modifiers, write_modifiers
from explorer.deltas.places import list_places
from explorer.deltas.stand_in import StandIn
from explorer.deltas.variant import Variant, find_layer_key, find_prefix_key
from explorer.deltas.weight_change import (
    LowRankUpdate,
    SparsityPattern,
    WeightChange,
    change_weight,
    fits_weight,
)
from explorer.errors import ModifyError
from explorer.masks.mask import NONE, PARTS, Mask, Site

MASK = Mask.parse("2-3,a5")
NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)
VALUES = st.from_regex(r"[A-Za-z0-9.:_+%-]{1,8}", fullmatch=True)
MASKS = st.frozensets(st.builds(Site, st.integers(0, 8), st.sampled_from(PARTS))).map(Mask)


def make(mask: Mask = MASK, below: tuple[str, ...] = (), value: float = 1.0) -> Delta:
    origin = Origin(ModifierSpec.parse("linear;rank=2"), mask, "base", "text", 64, "corpus", below, "torch", 1.5, 0.25)
    weights: dict[int, dict[str, WeightChange]] = {
        1: {
            "mlp.down_proj.weight": torch.full((3, 4), value, dtype=torch.bfloat16),
            "mlp.up_proj.weight": LowRankUpdate(torch.ones(3, 1), torch.arange(4.0)[None]),
            "mlp.gate_proj.weight": SparsityPattern.of(torch.eye(11)),
        }
    }
    stand_in = StandIn(down=torch.ones(3, 2), up=torch.ones(2, 3), bias=torch.arange(3.0))
    return Delta(origin, weights, {Mask.parse("2-3"): stand_in} if Mask.parse("2-3") in list_places(mask) else {})


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=3))
def test_a_spec_is_what_its_text_says(name: str, options: dict[str, str]) -> None:
    spec = ModifierSpec(name, tuple(sorted(options.items())))
    assert ModifierSpec.parse(str(spec)) == spec


@given(st.lists(st.builds(lambda name, options: ModifierSpec(name, tuple(sorted(options.items()))), NAMES,
                          st.dictionaries(NAMES, VALUES, max_size=3)), max_size=3))  # fmt: skip
def test_several_modifiers_have_one_text_form(specs: list[ModifierSpec]) -> None:
    text = write_modifiers(specs)
    assert ";" not in text
    assert read_modifiers(text) == tuple(specs)
    assert read_modifiers(",".join(map(str, specs))) == tuple(specs), "as links had them"


def test_an_option_is_of_the_modifier_before_it() -> None:
    assert read_modifiers("linear,rank=4, refit") == (ModifierSpec("linear", (("rank", "4"),)), ModifierSpec("refit"))
    for text in ("refit,", "rank=4", "refit,mean;", "refit;mean"):
        with pytest.raises(ModifyError, match="Malformed modifier"):
            read_modifiers(text)


@pytest.mark.parametrize("text", ["", ";", "Refit", "refit;", "refit;a", "refit;a=1;a=2", "refit;a=b=c", "a" * 500])
def test_a_malformed_spec_is_refused(text: str) -> None:
    with pytest.raises(ModifyError):
        ModifierSpec.parse(text)


def test_options_are_in_one_order() -> None:
    assert str(ModifierSpec.parse("replaceme; penalty=1 ;loss=cosine")) == "replaceme;loss=cosine;penalty=1"


@pytest.mark.parametrize(
    ("mask", "places"),
    [("none", []), ("2-3,a5", ["2-3", "a5"]), ("m1,2,a3,m3,a4,m6", ["m1", "2-3", "a4", "m6"]), ("0,2", ["0", "2"])],
)
def test_places(mask: str, places: list[str]) -> None:
    assert [str(place) for place in list_places(Mask.parse(mask))] == places


@given(MASKS)
def test_places_are_a_partition_in_order(mask: Mask) -> None:
    places = list_places(mask)
    assert sorted(site for place in places for site in place.sites) == sorted(mask.sites)
    assert [min(place.sites) for place in places] == sorted(min(place.sites) for place in places)


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    delta = make()
    write_delta(tmp_path / "d.safetensors", delta)
    found = read_delta(tmp_path / "d.safetensors")
    assert found == delta
    assert found.origin == delta.origin
    assert list(found.tensors) == list(delta.tensors)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in delta.tensors.items())
    assert found.tensors["layers.1.mlp.down_proj.weight"].dtype == torch.bfloat16
    assert {type(change) for change in found.weights[1].values()} == {torch.Tensor, LowRankUpdate, SparsityPattern}


def test_a_product_is_added_and_rounded_once() -> None:
    own, left, right = (torch.randn(shape, generator=torch.manual_seed(0)) for shape in ((5, 7), (5, 2), (2, 7)))
    found = change_weight(own.bfloat16(), LowRankUpdate(left, right))
    wanted = own.bfloat16().double().numpy() + left.double().numpy() @ right.double().numpy()
    assert found.dtype == torch.bfloat16
    np.testing.assert_allclose(found.float().numpy(), wanted, rtol=2**-8)


def test_a_pattern_leaves_what_it_keeps() -> None:
    own = torch.randn(4, 13, generator=torch.manual_seed(0))
    own[0, 0], kept = float("inf"), torch.randn(4, 13, generator=torch.manual_seed(1)) > 0
    found = change_weight(own, SparsityPattern.of(kept.float()))
    assert torch.equal(found[kept], own[kept])
    assert not found[~kept].any()


def test_changes_know_which_weights_they_are_for() -> None:
    own = torch.zeros(5, 12)
    product, pattern = LowRankUpdate(torch.zeros(5, 1), torch.zeros(1, 12)), SparsityPattern.of(torch.ones(5, 12))
    assert all(fits_weight(own, change) for change in (own, product, pattern))
    for other in (own[:4], own[:, :8], own.T):
        assert not any(fits_weight(other, change) for change in (own, product, pattern))


@pytest.mark.parametrize("place", [9, -1])
def test_a_changed_byte_is_found(tmp_path: Path, place: int) -> None:
    path = tmp_path / "d.safetensors"
    write_delta(path, make())
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModifyError):
        read_delta(path)


@pytest.mark.parametrize("content", [b"", b"not a file of tensors", b"\0" * 64])
def test_what_is_no_delta_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.safetensors").write_bytes(content)
    with pytest.raises(ModifyError):
        read_delta(tmp_path / "d.safetensors")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModifyError, match="absent"):
        read_delta(tmp_path / "absent.safetensors")


def test_the_digest_is_of_every_number_and_of_how_it_was_made() -> None:
    delta = make()
    changed = [
        make(value=2.0),
        make(below=("other",)),
        replace(delta, origin=replace(delta.origin, corpus="other")),
        replace(delta, origin=replace(delta.origin, base="other")),
        replace(delta, stand_ins={}),
    ]
    assert len({delta.digest, *(each.digest for each in changed)}) == 1 + len(changed)
    assert replace(delta, origin=replace(delta.origin, seconds=9.0)).digest == delta.digest


def test_nothing_stands_in_for_what_is_on() -> None:
    with pytest.raises(ModifyError, match="stands in"):
        Delta(make().origin, {}, {Mask.parse("4"): StandIn(bias=torch.zeros(3))})


def test_a_delta_is_for_its_mask_alone() -> None:
    with pytest.raises(ModifyError, match="another mask"):
        Variant(Mask.parse("2"), (make(),))


def test_deltas_keep_their_order() -> None:
    first = make()
    second = make(below=(first.digest,), value=3.0)
    assert Variant(MASK, (first, second)).key == f"2-3,a5+{first.digest}+{second.digest}"
    with pytest.raises(ModifyError, match="over others"):
        Variant(MASK, (second,))


def test_a_variant_is_written_with_its_modifiers() -> None:
    assert str(Variant(MASK, (make(),))) == "2-3,a5 + linear;rank=2"
    assert Variant(MASK).plain == MASK
    assert MASK.mask == MASK
    assert MASK.deltas == ()
    assert not Variant(NONE)


def test_prefixes_before_the_first_change_are_shared() -> None:
    variant = Variant(MASK, (make(),))
    alike = [layer for layer in range(7) if find_layer_key(variant, layer) == find_layer_key(MASK, layer)]
    assert alike == [0, 3, 4, 5, 6]
    shared = [find_prefix_key(variant, layer) == find_prefix_key(MASK, layer) for layer in range(4)]
    assert shared == [True, True, False, False]


@given(st.integers(1, 5))
def test_a_stand_in_is_its_formula(rows: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    x, weight, bias = (torch.randn(*shape, generator=draw) for shape in ((rows, 3), (3, 3), (3,)))
    down, up = torch.randn(3, 2, generator=draw), torch.randn(2, 3, generator=draw)
    whole = StandIn(torch.tensor([0.5]), weight, down, up, bias)
    torch.testing.assert_close(whole(x), 0.5 * x + x @ weight + (x @ down) @ up + bias)
    torch.testing.assert_close(StandIn(bias=bias)(x), bias.expand(rows, 3))
    assert not StandIn()(x).any()
