"""Model and text are chosen on any page, without leaving it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import open_choice, serve, settle
from tests.support.hub_search import play_hub
from tests.support.tiny_models import Tiny

QUICK = {"tokens": "240", "window": "24", "dtype": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def house(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models at hand")
    for family in ("llama", "gpt2"):
        copytree(tiny.folder(family), root / family)
    return root


@pytest.fixture(scope="module")
def url(house: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cache = tmp_path_factory.mktemp("cache")
    with serve(OMP_NUM_THREADS="1", EXPLORER_MODELS=str(house), EXPLORER_CACHE=str(cache)) as address:
        yield address


def visit(page: Page, url: str, name: str, model: Path) -> None:
    page.goto(f"{url}/{name}?{urlencode({**QUICK, 'model': str(model)})}")
    expect(page.get_by_role("button", name=re.compile(f"{model.name}"))).to_be_visible()


def test_what_is_being_typed_stays_while_the_page_behind_gets_on(page: Page, tmp_path: Path) -> None:
    with serve(EXPLORER_CACHE=str(tmp_path)) as address:
        page.goto(address)  # the packaged model, of which nothing is known yet
        choice = open_choice(page)
        field = choice.get_by_label("Text", exact=True)
        field.fill("./being-typ")
        page.wait_for_timeout(5000)
        expect(field).to_have_value("./being-typ")
        expect(field).to_be_focused()
        choice.get_by_role("tab", name="Facts").click()
        expect(choice.get_by_text("LlamaForCausalLM").first).to_be_attached()
        choice.get_by_role("button", name="Close").click()
        expect(page.locator(".st-key-frame").get_by_text("loading", exact=True)).to_have_count(0)


def test_a_model_at_hand_is_chosen_where_one_is(page: Page, url: str, house: Path) -> None:
    visit(page, url, "compare", house / "llama")
    settle(page)
    where = page.locator(".st-key-frame").bounding_box()
    choice = open_choice(page)
    expect(choice.get_by_text(re.compile("parameters, 4 layers .*: fits.$"))).to_be_visible()
    choice.get_by_role("tab", name="Facts").click()
    expect(choice.get_by_text("LlamaForCausalLM").first).to_be_attached()
    choice.get_by_role("tab", name="Choose").click()
    choice.get_by_role("button", name=str(house / "gpt2")).click()
    expect(choice.get_by_label("Model", exact=True)).to_have_value(str(house / "gpt2"))
    expect(choice.get_by_text(re.compile("GPT2LMHeadModel"))).to_be_visible()
    choice.get_by_role("button", name="Load", exact=True).click()
    expect(page).to_have_url(re.compile(r"/compare\?model=[^&]*gpt2"))
    expect(choice).to_have_count(0)
    settle(page)
    assert page.locator(".st-key-frame").bounding_box() == where  # the header stays as high and wide as it was
    again = open_choice(page)
    expect(again.get_by_text("this session")).to_have_count(2)


def test_a_click_before_the_fields_are_there_leaves_what_they_hold(page: Page, url: str, house: Path) -> None:
    visit(page, url, "", house / "llama")
    settle(page)
    page.evaluate(
        """new MutationObserver((_, seen) => {
          const model = document.querySelector(".st-key-at_hand button");
          if (model) { seen.disconnect(); model.click(); }
        }).observe(document.body, { childList: true, subtree: true })"""
    )
    choice = open_choice(page)
    settle(page)
    for label, value in (("Text", "python-docs"), ("Tokens in each split", "240"), ("Window", "24"), ("Device", "cpu")):
        expect(choice.get_by_label(label, exact=True)).to_have_value(value)


def test_a_text_is_pasted_and_measured(page: Page, url: str, house: Path) -> None:
    visit(page, url, "", house / "llama")
    choice = open_choice(page)
    choice.get_by_text("A text of your own").click()
    choice.get_by_label("Pasted text", exact=True).fill("Every good boy deserves fudge. " * 200)
    choice.get_by_label("Pasted text", exact=True).press("Control+Enter")
    expect(choice.get_by_label("Text", exact=True)).to_have_value(re.compile(r"uploads/\w+/pasted\.txt$"))
    choice.get_by_label("Calibration text", exact=True).fill("python-docs")
    choice.get_by_role("button", name="Load", exact=True).click()
    expect(page).to_have_url(re.compile(r"pasted\.txt.*calibration=python-docs"))
    expect(page.locator(".st-key-frame [title$='pasted.txt']")).to_be_visible()


def test_the_docs_are_a_click_away_and_need_no_model(page: Page, url: str, house: Path) -> None:
    visit(page, url, "compare", house / "llama")
    expect(page.get_by_test_id("stHeaderLogo")).to_be_visible()
    page.get_by_role("link", name="Docs", exact=True).click()
    expect(page.get_by_role("heading", name="Glossary")).to_be_visible()
    page.get_by_role("radio", name="Method").click()
    expect(page.get_by_role("heading", name="What off means")).to_be_visible()
    expect(page).to_have_url(re.compile(r"docs\?page=method"))
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.locator(".st-key-frame")).to_contain_text("/llama")


def test_the_hub_is_searched_where_there_is_one(page: Page, house: Path, tmp_path: Path) -> None:
    where = {"EXPLORER_MODELS": str(house), "EXPLORER_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with play_hub() as hub, serve(**where, HF_ENDPOINT=hub, HF_HUB_OFFLINE="0") as address:
        visit(page, address, "", house / "llama")
        choice = open_choice(page)
        words = choice.get_by_label("Search the hub")
        words.fill("<b>")
        words.press("Enter")
        expect(choice.get_by_role("button", name="lab/<b>gpt</b>")).to_be_visible()
        words.fill("down")
        words.press("Enter")
        expect(choice.get_by_text("Cannot search the hub")).to_be_visible()
        words.fill("llama")
        words.press("Enter")
        choice.get_by_role("button", name="lab/large-llama").click()
        expect(choice.get_by_label("Model", exact=True)).to_have_value("lab/large-llama")


def test_no_hub_is_searched_where_there_is_none(page: Page, url: str, house: Path) -> None:
    visit(page, url, "", house / "llama")
    expect(open_choice(page).get_by_label("Search the hub")).to_have_count(0)
