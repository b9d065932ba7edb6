"""Around the instrument: samples, what a stranger may write, and who cannot see or point."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Literal
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, expect

from explorer.evaluation.generation import generate
from explorer.masks.mask import NONE, PARTS, Mask, Site
from explorer.measures.catalogue import MEASURES
from explorer.measures.measure import measure_importance
from explorer.storage.store import Store
from tests.support.barriers import find_barriers
from tests.support.browser import open_page, serve
from tests.support.instrument import TOKENS, Instrument, drag
from tests.support.tiny_models import Tiny, load_folder

MARKUP = "<img src=x onerror=window.hit=1><b>bold</b> **stars** :red[x] $y$ [l](http://x)"
ALIVE = "document.querySelectorAll('img[src=x]').length"
DEEP_ALIVE = "[...document.querySelectorAll('*')].filter((e) => e.shadowRoot?.querySelector('img, b')).length"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


@pytest.fixture(scope="module")
def strange(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in a folder whose name is markup, with a chat template."""
    folder = copytree(tiny.folder("llama"), tmp_path_factory.mktemp("models") / "<b>bold<b> **m** &lt;")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}Q {{ m.content }} A{% endfor %}")
    return folder


def write_prompt(page: Page, prompt: str) -> None:
    field = page.get_by_label("Your own prompt")
    field.fill(prompt)
    field.press("Enter")
    expect(page.locator(".sample").last.locator(".prompt")).to_have_text(prompt)
    expect(page.locator(".sample .state")).to_have_count(0)


def test_samples_are_the_librarys_and_differences_are_marked(page: Page, url: str, strange: Path) -> None:
    Instrument(page, url, strange, mask="a1,m2")
    write_prompt(page, "The quick brown fox")
    loaded = load_folder(strange)
    last = page.locator(".sample").last
    for side, mask in enumerate((NONE, Mask.parse("a1,m2"))):
        expected = generate(loaded, mask, "The quick brown fox", 32)
        assert last.locator(".text").nth(side).text_content() == expected.text
        assert expected.prompt_perplexity is not None
        note = last.locator(".note").nth(side)
        expect(note).to_contain_text(f"repetition {expected.repetition:.0%}")
        expect(note).to_contain_text(f"prompt {expected.prompt_perplexity:,.2f}")
    assert last.locator("del").count() > 0
    assert last.locator("ins").count() > 0
    assert "underline" in last.locator("ins").first.evaluate("e => getComputedStyle(e).textDecorationLine")
    page.get_by_text("Chat template").click()
    chat = generate(loaded, NONE, "The quick brown fox", 32, chat=True).text
    expect(last.locator(".text").first).to_have_text(chat)


def test_another_plan_leads_the_slider_elsewhere(page: Page, url: str, strange: Path) -> None:
    shown = Instrument(page, url, strange)
    shown.wait_for_plan()
    page.get_by_label("Plan", exact=True).first.click()
    page.get_by_role("option", name="Deepest").click()
    expect(page).to_have_url(re.compile("plan=deepest%2Flayer"))
    shown.wait_for_plan()
    shown.slider.focus()
    page.keyboard.press("ArrowRight")
    shown.removes("2")
    page.keyboard.press("ArrowRight")
    shown.removes("1-2")
    expect(shown.tag).to_have_text("measured")


@pytest.mark.parametrize("name", ["taylor", "replaceability", "attention-entropy", "loss"])
def test_cells_are_coloured_by_any_measure(page: Page, url: str, strange: Path, name: str) -> None:
    shown = Instrument(page, url, strange)
    page.get_by_role("combobox", name="Colour by").click()
    page.get_by_role("option", name=MEASURES[name].label, exact=True).click()
    loaded = load_folder(strange)
    corpus = loaded.tokenize("python-docs", int(TOKENS["tokens"]), int(TOKENS["window"]))
    found = {each.unit: each for each in measure_importance(loaded, corpus, [name], Store(None), units=PARTS)}
    for part, row in zip(PARTS, ("attention", "MLP"), strict=True):
        cells = [shown.switch(f"{row} of layer {layer}") for layer in range(loaded.n_layers)]
        if part not in found:
            expect(cells[0]).to_have_attribute("title", f"{row} of layer 0")
            continue
        for cell, value in zip(cells, found[part].values, strict=True):
            expect(cell).to_have_attribute("title", re.compile(re.escape(f" {value:.4f}") + "$"))
    brightness = {
        (part, layer): shown.switch(f"{row} of layer {layer}").evaluate(
            "e => e.style.getPropertyValue('--colour').match(/\\d+/g).reduce((sum, n) => sum + Number(n), 0)"
        )
        for part, row in zip(PARTS, ("attention", "MLP"), strict=True) if part in found
        for layer in range(loaded.n_layers)
    }  # fmt: skip
    sign = -1 if MEASURES[name].redundant == "high" else 1
    by_value = sorted(brightness, key=lambda cell: sign * found[cell[0]].values[cell[1]])
    assert [brightness[cell] for cell in by_value] == sorted(brightness.values(), reverse=True)


def test_undo_outlives_a_change_of_page_and_a_reload(page: Page, url: str, strange: Path) -> None:
    shown = Instrument(page, url, strange)
    shown.switch("attention of layer 1").click()
    shown.removes("a1")
    shown.switch("MLP of layer 2").click()
    shown.removes("a1,m2")
    page.get_by_role("link", name="Plans", exact=True).first.click()
    expect(page.get_by_text("Plan files").first).to_be_visible()
    page.get_by_role("link", name="Explore", exact=True).first.click()
    page.get_by_role("button", name="Undo").click()
    shown.removes("a1")
    page.reload()
    page.get_by_role("button", name="Undo").click()
    shown.removes("none")
    page.get_by_role("button", name="Redo").click()
    shown.removes("a1")
    page.get_by_role("button", name="Redo").click()
    shown.removes("a1,m2")


def test_who_is_in_a_hurry_finds_the_page_whole(page: Page, url: str, strange: Path) -> None:
    shown, hurry, removed = Instrument(page, url, strange), random.Random(0), NONE
    for _ in range(8):
        for name in hurry.sample(["Analyse", "Plans", "Compare", "Export"], hurry.randint(0, 2)):
            page.get_by_role("link", name=name, exact=True).first.click()
            page.wait_for_timeout(hurry.choice([0, 50, 200, 500]))
        page.get_by_role("link", name="Explore", exact=True).first.click()
        page.wait_for_timeout(hurry.choice([0, 100, 300, 600]))
        site = Site(hurry.randrange(4), hurry.choice(PARTS))
        row = "attention" if site.part == "attention" else "MLP"
        shown.switch(f"{row} of layer {site.layer}").click()
        removed = Mask(removed.sites ^ {site})
        shown.removes(str(removed))


def test_decoding_speed_is_measured_when_asked_for(page: Page, url: str, strange: Path) -> None:
    Instrument(page, url, strange, mask="1-2")
    cells = [page.locator(f"[data-part=speed{which}]") for which in ("Before", "After")]
    for cell in cells:
        expect(cell).to_have_text("–")
    page.get_by_role("button", name="Measure").click()
    for cell in cells:
        expect(cell).to_have_text(re.compile(r"^[\d.]+$"))
    before, after = (float(cell.inner_text()) for cell in cells)
    assert before > 0
    assert after > 0


def test_what_is_said_of_a_link_stays_until_the_view_changes(page: Page, url: str, strange: Path) -> None:
    shown = Instrument(page, url, strange, plan="nonsense/layer")
    said = page.get_by_text("The link's plan was skipped")
    shown.wait_for_plan()
    expect(said).to_be_visible()
    shown.switch("attention of layer 1").click()
    shown.removes("a1")
    expect(said).to_have_count(0)


def test_nothing_a_stranger_writes_becomes_markup(page: Page, url: str, strange: Path) -> None:
    Instrument(page, url, strange, plan="nonsense/<b>x</b>")
    expect(page.get_by_text("The link's plan was skipped")).to_be_visible()
    write_prompt(page, MARKUP)
    expect(page.locator(".st-key-frame")).to_contain_text(str(strange))
    assert page.locator(".st-key-frame b, .st-key-frame img, [data-testid=stAlert] b").count() == 0
    assert page.evaluate(ALIVE) == page.evaluate(DEEP_ALIVE) == 0
    page.goto(f"{url}/?{urlencode({'text': f'./{MARKUP}.txt', 'model': str(strange)})}")
    expect(page.get_by_text("<img src=x").first).to_be_visible()
    assert page.evaluate(ALIVE) == 0
    assert page.evaluate("window.hit") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_barrier_to_those_who_cannot_see_or_point(
    browser: Browser, url: str, strange: Path, scheme: Literal["light", "dark"]
) -> None:
    with open_page(browser, scheme) as page:
        shown = Instrument(page, url, strange, mask="1,a2", modify="mean")
        shown.wait_for_plan()
        expect(page.locator(".sample .state")).to_have_count(0)
        barriers = {"explore": find_barriers(page)}
        shown.switch("MLP of layer 3").click()
        expect(page.locator("[data-part=recoveredTag]")).to_have_text("stale")
        barriers["stale"] = find_barriers(page)
    assert {name: found for name, found in barriers.items() if found} == {}


def test_a_tour_of_three_steps_comes_once(page: Page, url: str, small: Path) -> None:
    shown = Instrument(page, url, small)
    tour = page.get_by_role("complementary", name="Tour")
    for step, part in (("1 of 3: See", "blocks"), ("2 of 3: Remove", "slider"), ("3 of 3: Keep", "value")):
        expect(tour).to_contain_text(step)
        expect(page.locator("[data-toured]")).to_have_attribute("data-part", part)
        if part == "slider":
            shown.wait_for_plan()
            drag(page, shown.slider, 0.6)  # nothing of it is in the way
            expect(shown.value).not_to_have_text("–")
        tour.get_by_role("button", name=re.compile("Next|Done")).click()
    expect(tour).to_have_count(0)
    expect(page.locator("[data-toured]")).to_have_count(0)
    page.reload()
    expect(shown.tag).to_have_text("measured")
    expect(tour).to_have_count(0)


def test_a_tour_is_skipped(page: Page, url: str, small: Path) -> None:
    Instrument(page, url, small)
    page.get_by_role("button", name="Skip the tour").click()
    expect(page.get_by_role("complementary", name="Tour")).to_have_count(0)
    page.get_by_role("link", name="Plans", exact=True).first.click()
    page.get_by_role("link", name="Explore", exact=True).first.click()
    expect(page.locator(".instrument .tag")).to_have_text("measured")
    expect(page.get_by_role("complementary", name="Tour")).to_have_count(0)
