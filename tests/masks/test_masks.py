"""Mask: parse and print are inverse, equal masks print alike, bad text is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from explorer.errors import MaskError
from explorer.masks.mask import NONE, PARTS, Mask, Site

SITES = st.builds(Site, st.integers(0, 40), st.sampled_from(PARTS))
MASKS = st.frozensets(SITES, max_size=60).map(Mask)


@given(MASKS)
def test_parse_reads_what_str_prints(mask: Mask) -> None:
    assert Mask.parse(str(mask)) == mask


@given(MASKS, st.randoms())
def test_text_does_not_depend_on_how_the_mask_was_written(mask: Mask, random) -> None:
    terms = [str(site) for site in mask.sites]
    random.shuffle(terms)
    assert str(Mask.parse(" , ".join(terms) or " none ")) == str(mask)


@given(MASKS)
def test_text_has_no_blank_and_no_site_twice(mask: Mask) -> None:
    text = str(mask)
    assert " " not in text
    written = [Mask.parse(term).sites for term in text.split(",")]
    assert sum(map(len, written)) == len(mask.sites)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("none", "none"),
        ("12-15,a20,m3-4", "12-15,a20,m3-4"),
        ("3,1,2", "1-3"),
        ("a1,m1", "1"),
        ("a1-3,m2", "2,a1,a3"),
        ("5-5", "5"),
        ("0,0,a0", "0"),
        ("007", "7"),
        ("m2, a1 ,10", "10,a1,m2"),
        ("1,2,4", "1-2,4"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    assert str(Mask.parse(text)) == canonical


@pytest.mark.parametrize(
    "text",
    ["", " ", ",", "1,", ",1", "x3", "a", "am3", "3-", "-3", "3--4", "4-3", "a5-a7", "1.5", "1 2", "none,1", "NONE",
     "A3", "12345", "+1", "１٢x", "0x1", "1;2"],
)  # fmt: skip
def test_malformed_text_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(MaskError) as caught:
        Mask.parse(text)
    assert "\n" not in str(caught.value)


def test_empty_mask() -> None:
    assert not NONE
    assert Mask.parse("none") == NONE == Mask()


def test_whole_layers_and_off() -> None:
    mask = Mask.parse("2,a3,m4")
    assert mask.whole_layers == {2}
    assert [mask.off(layer) for layer in range(1, 5)] == [(False, False), (True, True), (True, False), (False, True)]
    assert Mask.of_layers([2, 3]) == Mask.parse("2-3")


def test_out_of_range_names_the_layer_and_the_range() -> None:
    assert Mask.parse("3").checked(4) == Mask.parse("3")
    with pytest.raises(MaskError, match=r"layer 4.*0 to 3"):
        Mask.parse("1,m4-9").checked(4)


@given(st.frozensets(SITES), st.frozensets(SITES))
def test_masks_combine_as_sets_do(left: frozenset[Site], right: frozenset[Site]) -> None:
    a, b = Mask(left), Mask(right)
    assert (a | b).sites == left | right
    assert (a - b).sites == left - right
    assert (a <= b) == (left <= right)
    assert a - b <= a <= a | b


def test_equal_masks_print_alike_in_every_process() -> None:
    program = "from explorer.masks.mask import Mask; print(repr([Mask.parse('9,a3,m20-25,1-4'), Mask()]))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert printed == {b"[1-4,9,m20-25, none]\n"}
