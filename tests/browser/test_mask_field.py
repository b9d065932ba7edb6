"""The field of the Prune page: a mask as text, an amount along the plan, what is neither; and a strip that moves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import serve
from tests.support.instrument import Instrument
from tests.support.tiny_models import Tiny


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1") as address:  # tiny layers lose by threads
        yield address


@pytest.fixture(scope="module")
def small(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copytree(tiny.folder("llama"), tmp_path_factory.mktemp("small") / "llama")


def test_what_is_written_is_removed(page: Page, url: str, small: Path) -> None:
    shown = Instrument(page, url, small)
    shown.wait_for_plan()
    field = page.get_by_role("textbox", name="Removed, or how much")
    expect(field).to_have_value("none")

    def write(text: str) -> None:
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
    }
    for text, words in refused.items():
        write(text)
        expect(page.locator(".st-key-choices")).to_contain_text(words)
        shown.removes("1,a0,m3")
        expect(field).to_have_value(text)
    write("none")
    shown.removes("none")
    expect(page.locator(".st-key-choices")).not_to_contain_text(refused["4"])
