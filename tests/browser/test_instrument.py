"""The instrument in a real browser: what is shown at once, what is sent, that estimates are marked, and its field."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import serve, settle
from tests.support.command_line import score_by_command_line
from tests.support.instrument import TOKENS, Instrument, drag
from tests.support.tiny_models import REPOSITORY, WINDOW, save_deep
from ui.parts.number_format import describe_bytes


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1") as address:  # tiny layers lose by threads
        yield address


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 80 layers."""
    return save_deep(80, tmp_path_factory.mktemp("deep"))


def ask_command_line(model: Path, *masks: str) -> dict[str, Any]:
    return score_by_command_line({**TOKENS, "model": model}, masks)


def test_a_drag_sends_nothing_and_its_release_one_mask(page: Page, url: str, deep: Path) -> None:
    shown = Instrument(page, url, deep)
    shown.wait_for_plan()
    sent = shown.sent
    seen = drag(page, shown.slider, 0.5, release=False)
    assert len(set(seen)) > 10
    assert shown.sent == sent
    expect(shown.tag).to_have_text("measured")
    page.mouse.up()
    expect(page.locator("[data-part=step]")).to_contain_text("80 of 160 sites removed, 50.0%")
    expect(page.locator(".st-key-frame")).not_to_contain_text("Removednone")
    assert shown.sent > sent
    mask = re.search(r"Removed(.+)Perplexity", page.locator(".st-key-frame").inner_text().replace("\n", ""))
    assert mask is not None
    found = ask_command_line(deep, mask[1])[mask[1]]
    assert shown.value.inner_text() == f"{found['perplexity']:,.2f}"
    low, high = found["perplexity_ci95"]
    expect(page.locator(".instrument")).to_contain_text(f"95% interval {low:,.2f} to {high:,.2f}")


def test_costs_follow_the_mask(page: Page, url: str, deep: Path) -> None:
    Instrument(page, url, deep, mask="10-19,a30,m31")
    command = [sys.executable, "-m", "explorer", "info", "--json", f"--model={deep}", f"--window={WINDOW}"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout)
    size = {site["site"]: site["parameters"] for site in told["sites"]}
    norms = 2 * 32 * 10  # two a layer, of the layers that are gone
    gone = sum(size[f"{part}{layer}"] for layer in range(10, 20) for part in "am") + size["a30"] + size["m31"] + norms
    rows = page.locator(".meter tbody tr")
    left = told["parameters"] - gone
    assert rows.nth(0).inner_text().split("\t") == [
        "Parameters", f"{told['parameters']:,}", f"{left:,}", f"{100 * gone / told['parameters']:.1f}%",
    ]  # fmt: skip
    assert rows.nth(1).inner_text().split("\t")[2] == describe_bytes(2 * left)
    page.get_by_label("Weights").select_option("4 bits")
    assert rows.nth(1).inner_text().split("\t")[2] == describe_bytes(left / 2)
    before, after = 80 * 2 * 2 * 8 * 4, 69 * 2 * 2 * 8 * 4
    assert rows.nth(2).inner_text().split("\t")[1:3] == [describe_bytes(before), describe_bytes(after)]
    page.locator("[data-part=context]").select_option("8192")
    assert rows.nth(3).inner_text().split("\t")[1:3] == [describe_bytes(8192 * before), describe_bytes(8192 * after)]


def test_hand_and_keyboard_set_the_mask_and_take_it_back(page: Page, url: str, deep: Path) -> None:
    shown = Instrument(page, url, deep)
    shown.switch("attention of layer 3").click()
    shown.removes("a3")
    shown.switch("attention of layer 7").click(modifiers=["Shift"])
    shown.removes("a3-7")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    shown.removes("a3-8")
    page.keyboard.press("Shift+ArrowDown")
    shown.removes("8,a3-7")
    page.keyboard.press("Shift+ArrowRight")
    shown.removes("8,a3-7,m9")
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    shown.removes("a3-8")
    page.keyboard.press("Control+Shift+z")
    shown.removes("8,a3-7")
    page.get_by_role("button", name="Undo").click()
    shown.removes("a3-8")
    shown.slider.focus()
    page.keyboard.press("Home")
    shown.removes("none")
    expect(page.get_by_role("status").filter(has_text="0 of 160 sites removed")).to_have_count(1)


@pytest.mark.parametrize("pause", [0, 50, 200, 500])
def test_every_gesture_in_a_hurry_counts(page: Page, url: str, small: Path, pause: int) -> None:
    shown = Instrument(page, url, small)
    for name in ("layer 1", "attention of layer 2", "MLP of layer 0", "layer 1", "MLP of layer 3", "layer 1"):
        shown.switch(name).click()
        page.wait_for_timeout(pause)
    shown.removes("1,a2,m0,m3")
    expect(page.get_by_role("textbox", name="Removed, or how much")).to_have_value("1,a2,m0,m3")
    expect(shown.tag).to_have_text("measured")
    shown.switch("layer 1").click()
    shown.removes("a2,m0,m3")


def test_an_estimate_is_marked_until_the_exact_value_replaces_it(page: Page, url: str, deep: Path) -> None:
    shown = Instrument(page, url, deep)
    shown.wait_for_plan()  # single damages are measured by then
    page.locator(".instrument").evaluate(
        """box => {
          window.seen = [];
          const look = () => window.seen.push([".value", ".tag"].map((name) => box.querySelector(name).textContent));
          new MutationObserver(look).observe(box, { subtree: true, childList: true, characterData: true });
        }"""
    )
    top = shown.value.bounding_box()
    shown.switch("attention of layer 40").click()
    shown.switch("MLP of layer 41").click()
    shown.removes("a40,m41")
    expect(shown.tag).to_have_text("measured")
    seen = page.evaluate("window.seen")
    signs = {"estimated": "≈", "rough": "~"}
    assert all(value[0] == signs.get(tag, value[0]) for value, tag in seen if tag != "waiting")
    assert {tag for _, tag in seen} >= {"rough", "measured"}
    found = ask_command_line(deep, "a40,m41")["a40,m41"]
    assert shown.value.inner_text() == f"{found['perplexity']:,.2f}"
    assert shown.value.bounding_box() == top


@pytest.mark.parametrize("width", [1280, 1920])
def test_eighty_layers_fit_without_a_scroll_bar(page: Page, url: str, deep: Path, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    shown = Instrument(page, url, deep)
    last = shown.switch("MLP of layer 79").bounding_box()
    assert last is not None
    assert last["x"] + last["width"] <= width
    assert last["width"] >= 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_is_written_is_removed(page: Page, url: str, small: Path) -> None:
    shown = Instrument(page, url, small)
    shown.wait_for_plan()
    field = page.get_by_role("textbox", name="Removed, or how much")
    expect(field).to_have_value("none")

    def write(text: str) -> None:
        settle(page)
        field.fill(text)
        field.press("Enter")

    write("m3, 1")
    shown.removes("1,m3")
    expect(field).to_have_value("1,m3")
    expect(shown.switch("MLP of layer 3")).to_have_attribute("aria-checked", "false")
    shown.switch("attention of layer 0").click()
    shown.removes("1,a0,m3")
    expect(field).to_have_value("1,a0,m3")
    write("2 layers")
    expect(page.locator("[data-part=step]")).to_have_text("4 of 8 sites removed, 50.0%")
    page.get_by_role("button", name="Undo").click()
    expect(field).to_have_value("1,a0,m3")
    refused = {
        "12 laers": "Malformed mask: '12 laers'",
        "4": "Mask out of range: it names layer 4, the model has layers 0 to 3",
        "99% of parameters": "No step of the plan removes so much: '99% of parameters'",
        "best block of 5": "There is no such block: 5 layers. Use 1 to 4",
    }
    for text, words in refused.items():
        write(text)
        expect(page.locator(".st-key-choices")).to_contain_text(words)
        shown.removes("1,a0,m3")
        expect(field).to_have_value(text)
    write("best block of 2 layers")
    expect(field).to_have_value(re.compile(r"^(0-1|1-2|2-3)$"))
    write("none")
    shown.removes("none")
    expect(page.locator(".st-key-choices")).not_to_contain_text(refused["4"])
