"""A link that names files of the server: it asks first, and until then nothing of them reaches the browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import open_choice, serve
from tests.support.tiny_models import Tiny

QUICK = {"tokens": "240", "window": "24", "dtype": "float32", "device": "cpu"}
SECRET = "a-name-that-nobody-may-read"


@pytest.fixture(scope="module")
def house(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that links may read in `models`, one that they may not in `secret`."""
    root = tmp_path_factory.mktemp("house")
    copytree(tiny.folder("llama"), root / "models/llama")
    copytree(tiny.folder("llama"), root / "secret/llama")
    (root / "secret/llama" / SECRET).write_text("x" * 54321)
    for name in ("notes", "fit"):
        (root / f"secret/{name}.txt").write_text("The text that nobody may read. " * 500)
    return root


@pytest.fixture(scope="module")
def url(house: Path) -> Iterator[str]:
    environment = {"MODELS": house / "models", "TEXTS": house / "models", "CACHE": house / "cache",
                   "EXPORTS": house / "exports"}  # fmt: skip
    with serve(OMP_NUM_THREADS="1", **{f"EXPLORER_{name}": str(path) for name, path in environment.items()}) as address:
        yield address


def open_link(page: Page, url: str, **parameters: str) -> list[bytes]:
    """Open a link; return what the server sends, which grows."""
    received: list[bytes] = []

    def take(frame: str | bytes) -> None:
        received.append(frame.encode() if isinstance(frame, str) else frame)

    page.on("websocket", lambda socket: socket.on("framereceived", take))
    page.goto(f"{url}/?{urlencode({**QUICK, **parameters})}")
    return received


def asked(page: Page) -> None:
    expect(page.get_by_text("This link asks to read files on this server")).to_be_visible()
    expect(page.get_by_text("Work:")).to_have_count(0)


def test_a_link_into_the_folder_is_read_at_once(page: Page, url: str, house: Path) -> None:
    open_link(page, url, model=str(house / "models/llama"))
    expect(page.locator(".instrument")).to_be_attached()


def test_a_text_to_fit_by_is_asked_for_as_any_other(page: Page, url: str, house: Path) -> None:
    text = f"{house}/secret/fit.txt"
    received = open_link(page, url, model=str(house / "models/llama"), calibration=text, modify="mean", mask="1")
    asked(page)
    expect(page.get_by_text(f"Calibration: {text}")).to_be_visible()
    page.wait_for_timeout(1000)
    assert not any(b"float32 on cpu" in frame for frame in received)
    page.get_by_role("button", name="Read it").click()
    expect(page.locator("[data-part=recoveredTag]")).to_have_text("measured")  # nothing else is fitted to


def test_a_link_out_of_the_folder_asks_and_can_be_left(page: Page, url: str, house: Path) -> None:
    received = open_link(page, url, model=str(house / "models/../secret/llama"), mask="2")
    asked(page)
    expect(page.get_by_text(f"Model: {house}/secret/llama")).to_be_visible()
    page.wait_for_timeout(1000)
    assert received
    assert not any(SECRET.encode() in frame or b"54321" in frame for frame in received)
    page.get_by_role("button", name="Leave it").click()
    expect(page).to_have_url(re.compile("model=SmolLM2-135M-Instruct"))
    expect(page.get_by_text("Work:")).to_be_visible()


def test_a_link_that_was_agreed_to_is_read_and_stays_so(page: Page, url: str, house: Path) -> None:
    received = open_link(
        page, url, model=str(house / "models/llama"), text=f"{house}/secret/notes.txt", mask="a1", window="20"
    )
    asked(page)
    expect(page.get_by_text(f"Text: {house}/secret/notes.txt")).to_be_visible()
    page.get_by_role("button", name="Read it").click()
    expect(page.locator(".instrument")).to_be_attached()
    expect(page).to_have_url(re.compile("mask=a1"))
    page.reload()
    expect(page.locator(".instrument")).to_be_attached()
    size = str((house / "secret/notes.txt").stat().st_mtime_ns).encode()
    assert not any(size in frame for frame in received)


def test_what_is_typed_on_the_page_is_agreed_to(page: Page, url: str, house: Path) -> None:
    received = open_link(page, url, model=str(house / "models/llama"))
    choice = open_choice(page)
    choice.get_by_label("Model", exact=True).fill(str(house / "secret/llama"))
    choice.get_by_role("button", name="Load", exact=True).click()
    expect(page).to_have_url(re.compile("secret"))
    expect(page.locator(".instrument")).to_be_attached()
    assert not any(SECRET.encode() in frame or b"54321" in frame for frame in received)


@pytest.mark.parametrize(("kind", "name"), [("text", "tokens:a\0b"), ("text", "hf:"), ("model", "a\0b")])
def test_what_is_no_name_is_skipped_with_a_word(page: Page, url: str, house: Path, kind: str, name: str) -> None:
    open_link(page, url, **{"model": str(house / "models/llama"), kind: name})
    expect(page.get_by_text(f"The link's {kind} was skipped.")).to_be_visible()


def test_exports_go_below_the_folder_and_others_are_refused_under_the_field(page: Page, url: str, house: Path) -> None:
    page.goto(f"{url}/export?{urlencode({**QUICK, 'model': str(house / 'models/llama'), 'mask': '2'})}")
    field = page.get_by_label("Name, below")
    button = page.get_by_role("button", name="Export", exact=True)
    for wrong in (str(house / "elsewhere"), "../elsewhere", "~/elsewhere"):
        field.fill(wrong)
        field.press("Enter")
        expect(page.get_by_text(re.compile("Exports go below one folder|leads elsewhere"))).to_be_visible()
        expect(button).to_be_disabled()
    field.fill("mine/smaller")
    field.press("Enter")
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_text(f"Wrote {house}/exports/mine/smaller")).to_be_visible()
    assert (house / "exports/mine/smaller/config.json").is_file()
    assert not (house / "elsewhere").exists()
