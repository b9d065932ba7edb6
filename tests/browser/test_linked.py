"""A link holds what was chosen on its page: the tab, what colours, prompts, ticked methods."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import open_page, serve, settle
from tests.support.instrument import TOKENS, Instrument


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


def visit(page: Page, url: str, small: Path, name: str, **more: str) -> None:
    page.goto(f"{url}/{name}?{urlencode({**TOKENS, 'model': str(small), **more})}")
    expect(page.locator(".st-key-work")).to_be_visible()
    settle(page)


def read(page: Page) -> dict[str, str]:
    settle(page)
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_role("combobox", name=label).click()
    page.get_by_role("option", name=option, exact=True).click()
    settle(page)


def go_back_to(page: Page, place: str) -> None:
    """Go back, a step for each of those that were gone at the most."""
    for _ in range(page.evaluate("history.length")):
        if place in page.url:
            return
        page.go_back()
        settle(page)
    raise AssertionError(f"No step back leads from {page.url} to {place}")


def test_prompts_and_colours(page: Page, browser: Browser, url: str, small: Path) -> None:
    visit(page, url, small, "")
    assert not {"colour", "prompts", "prompt"} & set(read(page))
    choose(page, "Colour by", "Magnitude")
    page.get_by_role("button", name="Facts", exact=True).click()
    settle(page)
    page.get_by_label("Your own prompt").fill("One & two, three")
    page.get_by_label("Your own prompt").press("Enter")
    expect(page).to_have_url(re.compile("prompt=One"))
    found = read(page)
    assert (found["colour"], found["prompts"], found["prompt"]) == ("magnitude", "Code", "One & two, three")
    with open_page(browser) as other:
        other.goto(page.url)
        expect(other.get_by_label("Your own prompt")).to_have_value("One & two, three")
        expect(other.get_by_role("button", name="Facts", exact=True)).to_have_attribute("aria-pressed", "false")
        expect(other.get_by_role("button", name="Code", exact=True)).to_have_attribute("aria-pressed", "true")
        expect(other.get_by_role("combobox", name="Colour by")).to_have_value("Magnitude")
        other.get_by_role("link", name="Heal", exact=True).first.click()
        expect(other.get_by_role("button", name="Heal this")).to_be_visible()
        assert not {"colour", "view"} & set(read(other))


@pytest.mark.parametrize(("name", "view"), [("analyse", "Pairs"), ("evaluate", "Text and objective")])
def test_the_view(page: Page, browser: Browser, url: str, small: Path, name: str, view: str) -> None:
    visit(page, url, small, name)
    page.get_by_role("radio", name=view).click()
    expect(page).to_have_url(re.compile("view="))
    assert read(page)["view"] == view
    with open_page(browser) as other:
        other.goto(page.url)
        expect(other.get_by_role("radio", name=view)).to_be_checked()


def test_ticked_methods(page: Page, url: str, small: Path) -> None:
    visit(page, url, small, "plans", remove="attention", methods="attention-drop,greedy,no-such")
    chosen = page.get_by_role("grid").or_(page.locator("[data-tag]"))
    expect(chosen.filter(has_text="Greedy").first).to_be_visible()
    expect(page.get_by_role("radio", name="Attention", exact=True)).to_be_checked()
    found = read(page)
    assert (found["remove"], found["methods"]) == ("attention", "attention-drop,greedy")


@pytest.mark.parametrize("strange", ["nothing", "<b>Pairs</b>", ""])
def test_what_there_is_not_is_left_out(page: Page, url: str, small: Path, strange: str) -> None:
    visit(page, url, small, "analyse", view=strange)
    expect(page.get_by_role("radio", name="Blocks")).to_be_checked()
    assert "view" not in read(page)


def test_going_back_and_forward(page: Page, url: str, small: Path) -> None:
    explore = Instrument(page, url, small)
    explore.removes("none")
    explore.switch("layer 1").click()
    explore.removes("1")
    explore.switch("attention of layer 2").click()
    explore.removes("1,a2")
    page.go_back()
    explore.removes("1")
    page.go_back()
    explore.removes("none")
    page.go_forward()
    explore.removes("1")
    assert read(page)["mask"] == "1"
    page.get_by_role("link", name="Analyse", exact=True).first.click()
    page.get_by_role("radio", name="Pairs").click()
    expect(page).to_have_url(re.compile("view=Pairs"))
    page.get_by_role("radio", name="Measures").click()
    expect(page).to_have_url(re.compile("view=Measures"))
    page.go_back()
    expect(page.get_by_role("radio", name="Pairs")).to_be_checked()
    assert read(page)["view"] == "Pairs"
    go_back_to(page, "/?")
    expect(explore.value).to_be_visible()
    explore.removes("1")
    assert read(page)["mask"] == "1"


def test_an_address_without_parameters_is_no_trap(page: Page, url: str, small: Path) -> None:
    """The frontend leaves one now and then, as it follows a link."""
    page.goto(f"{url}/docs")
    expect(page.get_by_role("heading").first).to_be_visible()
    visit(page, url, small, "analyse")
    page.evaluate("history.pushState({}, '', '/analyse')")
    page.get_by_role("radio", name="Pairs").click()
    expect(page).to_have_url(re.compile("view=Pairs"))
    before = page.evaluate("history.length")
    page.go_back()
    expect(page).to_have_url(re.compile("view=Pairs"))
    settle(page)
    assert page.evaluate("history.length") == before
    go_back_to(page, "/docs")


def test_what_is_wrong_in_a_link_is_no_trap(page: Page, url: str, small: Path) -> None:
    page.goto(f"{url}/docs")
    expect(page.get_by_role("heading").first).to_be_visible()
    before = page.evaluate("history.length")
    visit(page, url, small, "analyse", mask="1,99", view="nothing")
    expect(page.get_by_text("they were skipped")).to_be_visible()
    found = read(page)
    assert (found["mask"], found["tokens"], "view" in found) == ("1", TOKENS["tokens"], False)
    assert page.evaluate("history.length") == before + 1
    page.go_back()
    expect(page).to_have_url(re.compile("/docs"))
