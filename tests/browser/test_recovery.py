"""Recovery on the Explore page: started, stopped, stale, made anew; its curve, its samples, its pins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from explorer.deltas.modifier_spec import ModifierSpec
from explorer.evaluation.generation import generate
from explorer.evaluation.perplexity import score
from explorer.evaluation.recovered import find_recovered
from explorer.masks.mask import NONE, Mask
from explorer.modifiers.modify import modify
from explorer.storage.store import Store
from tests.support.browser import serve, settle
from tests.support.instrument import TOKENS, Instrument, drag
from tests.support.tiny_models import load_folder

MASK = Mask.parse("1,a2")
MEAN = [ModifierSpec.parse("mean")]  # whatever the batches, it comes out the same


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


class Recovered:
    """What the page shows of the recovered model."""

    def __init__(self, page: Page) -> None:
        self.value, self.tag, self.interval, self.detail = (
            page.locator(f"[data-part=recovered{name}]") for name in ("Value", "Tag", "Interval", "Detail")
        )
        self.row = page.locator(".st-key-recovery")

    @property
    def words(self) -> tuple[str, str]:
        return self.value.inner_text(), self.tag.inner_text()


def choose(page: Page, name: str) -> None:
    settle(page)  # a list that is open closes when its row is drawn anew, and when the page is scrolled
    box = page.get_by_role("combobox", name="Recover by")
    box.evaluate("e => e.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(300)
    box.click()
    page.get_by_role("option", name=name, exact=True).click()


def ask_library(model: Path, mask: Mask) -> Any:
    loaded = load_folder(model)
    corpus = loaded.tokenize("python-docs", int(TOKENS["tokens"]), int(TOKENS["window"]))
    variant = modify(loaded, corpus, mask, MEAN, Store(None))
    return loaded, variant, *score(loaded, corpus, [mask, variant], Store(None))


def test_what_is_recovered_is_the_librarys_and_stale_when_the_mask_moves(page: Page, url: str, small: Path) -> None:
    shown, found = Instrument(page, url, small, mask=str(MASK)), Recovered(page)
    expect(found.value).to_be_hidden()
    choose(page, "Mean update")
    expect(page).to_have_url(re.compile("modify=mean"))
    expect(found.tag).to_have_text("measured")
    _, _, pruned, recovered = ask_library(small, MASK)
    assert recovered.perplexity_ci95 is not None
    assert found.value.inner_text() == f"{recovered.perplexity:,.2f}"
    low, high = recovered.perplexity_ci95
    expect(found.interval).to_have_text(f"95% interval {low:,.2f} to {high:,.2f}")
    share = f"{find_recovered(pruned, recovered).share:.1%}".replace("-", "−")
    expect(found.detail).to_contain_text(f"{share} [")
    expect(page.locator("[data-part=whole]")).to_contain_text(f"Whole: {pruned.unpruned.perplexity:,.2f}, measured")
    before = found.words
    shown.switch("MLP of layer 3").click()
    expect(found.tag).to_have_text("stale")
    assert found.words == (before[0], "stale")
    expect(found.row).to_contain_text(f"Made for {MASK}; now 1,a2,m3 is off.")
    settle(page)
    page.get_by_role("button", name="Undo").click()
    expect(found.tag).to_have_text("measured")
    assert found.words == before
    settle(page)
    page.get_by_role("button", name="Redo").click()
    expect(found.tag).to_have_text("stale")
    settle(page)
    page.get_by_role("button", name="Recover this").click()
    *_, recovered = ask_library(small, Mask.parse("1,a2,m3"))
    expect(found.value).to_have_text(f"{recovered.perplexity:,.2f}")
    expect(found.tag).to_have_text("measured")


def test_the_second_curve_fills_and_samples_stand_three_abreast(page: Page, url: str, small: Path) -> None:
    shown, found = Instrument(page, url, small, mask=str(MASK), modify="mean"), Recovered(page)
    shown.wait_for_plan()
    steps = page.locator("svg .dot.recovered")
    expect(steps).to_have_count(page.locator("svg circle.dot").count())
    expect(page.locator("[data-part=legend]")).to_contain_text("recovered: Mean update")
    expect(page.locator(".sample .state")).to_have_count(0)
    card = page.locator(".sample").first
    expect(card.locator("h4")).to_have_text(["Original", "Pruned", "Recovered"])
    loaded, variant, *_ = ask_library(small, MASK)
    prompt = card.locator(".prompt").inner_text()
    for side, each in enumerate((NONE, MASK, variant)):
        assert card.locator(".text").nth(side).text_content() == generate(loaded, each, prompt, 32).text
    sent = shown.sent
    drag(page, shown.slider, 0.5, release=False)
    expect(found.tag).to_have_text("measured")
    assert shown.sent == sent
    page.mouse.up()
    shown.wait_for_plan()
    choose(page, "Nothing")
    expect(card.locator("h4")).to_have_text(["Original", "Pruned"])
    expect(found.value).to_be_hidden()
    expect(steps).to_have_count(0)


def test_a_starred_recovery_has_the_recovered_numbers_and_leads_back(page: Page, url: str, small: Path) -> None:
    shown, found = Instrument(page, url, small, mask=str(MASK), modify="mean"), Recovered(page)
    expect(found.tag).to_have_text("measured")
    page.get_by_role("button", name="Star this", exact=True).click()
    value = found.value.inner_text()
    page.get_by_role("link", name="Compare").first.click()
    page.get_by_role("radio", name="Side by side").click()
    expect(page.locator(".comparison .value td").nth(1)).to_have_text(value)
    page.get_by_role("button", name=f"Set this: {MASK} + mean").click()
    shown.removes(str(MASK))
    expect(found.value).to_have_text(value)
    expect(page).to_have_url(re.compile("modify=mean"))


def test_another_text_to_fit_by_is_loaded_first_and_one_that_is_not_there_is_one_line(
    page: Page, url: str, small: Path, tmp_path: Path
) -> None:
    Instrument(page, url, small, mask=str(MASK), modify="mean")
    found = Recovered(page)
    expect(found.tag).to_have_text("measured")
    before = found.value.inner_text()
    field = page.get_by_role("combobox", name="Fitted on")
    field.fill("./no/such/text.txt")
    field.press("Enter")
    expect(page.get_by_test_id("stAlert")).to_have_count(1)
    expect(page.get_by_test_id("stAlert")).to_contain_text("no/such/text.txt")
    expect(found.value).to_have_text(before)
    text = tmp_path / "numbers.txt"
    text.write_text(" ".join(f"{number} is a number." for number in range(4000)))
    field.fill(str(text))
    field.press("Enter")
    expect(page).to_have_url(re.compile("calibration="))
    expect(found.row).to_contain_text("numbers.txt in")
    expect(found.tag).to_have_text("measured")
    assert found.value.inner_text() != before
