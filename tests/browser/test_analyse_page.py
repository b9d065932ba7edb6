"""The Redundancy and Plans pages in a real browser: click a block, measure, compare, download."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import find_plot, serve, wait_for_plot
from tests.support.command_line import ask
from tests.support.tiny_models import WINDOW, Tiny

TOKENS = {"tokens": str(4 * WINDOW), "window": str(WINDOW), "dtype": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(OMP_NUM_THREADS="1", EXPLORER_CACHE=str(tmp_path_factory.mktemp("cache"))) as address:
        yield address


@pytest.fixture
def model(tiny: Tiny) -> Path:
    return tiny.folder("llama")


def visit(page: Page, url: str, name: str, model: Path, mask: str = "none") -> None:
    page.goto(f"{url}/{name}?{urlencode({**TOKENS, 'model': str(model), 'mask': mask})}")


def click_cell(page: Page, name: str, layer_inputs: int, index: int) -> None:
    """Click on a point where plotly has drawn it."""
    drawn = wait_for_plot(page, name, "plot._fullLayout && plot.calcdata")
    drawn.evaluate("p => p.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(300)
    x, y = drawn.evaluate(
        """(plot, [trace, index]) => {
            const full = plot._fullData[trace], box = plot.getBoundingClientRect();
            const xs = plot._fullLayout[full.xaxis.replace("x", "xaxis")];
            const ys = plot._fullLayout[full.yaxis.replace("y", "yaxis")];
            return [box.x + xs._offset + xs.d2p(full.x[index]), box.y + ys._offset + ys.d2p(full.y[index])];
        }""",
        [layer_inputs, index],
    )
    page.mouse.click(x, y)


def run_cli(model: Path, *words: str) -> dict:
    return ask({**TOKENS, "model": model}, *words)


def test_a_block_that_is_clicked_goes_to_explore(page: Page, url: str, model: Path) -> None:
    visit(page, url, "analyse", model)
    targets = find_plot(page, "angular-distance").evaluate(
        "p => [...p._fullData[3].x].map((x, i) => [x, p._fullData[3].y[i]])"
    )
    click_cell(page, "angular-distance", 3, targets.index([1, 2]))
    expected = run_cli(model, "measure")["angular_distance"]["last_token"][1][1]
    expect(page.locator(".st-key-offer")).to_contain_text(f"Layers 1-2: angular distance {expected:.4f}")
    page.get_by_role("button", name="Remove this block").click()
    expect(page).to_have_url(re.compile(r"/\?.*mask=1-2"))


def test_figures_and_tables_can_be_taken_along(page: Page, url: str, model: Path) -> None:
    visit(page, url, "analyse", model)
    find_plot(page, "angular-distance")
    page.get_by_role("button", name="Download", exact=True).click()
    caption = re.compile(r"\(model .*; text .*; 96 tokens in windows of 24; Layer Redundancy Explorer ")
    expect(page.get_by_test_id("stCode").first).to_contain_text(caption)
    contents = {}
    for label in ("SVG", "PNG", "PDF", "HTML", "CSV", "JSON"):
        with page.expect_download() as download:
            page.get_by_role("button", name=label, exact=True).click()
        assert download.value.suggested_filename == f"angular-distance.{label.lower()}"
        contents[label] = Path(download.value.path()).read_bytes()
    assert contents["SVG"].startswith(b"<svg")
    assert contents["PNG"].startswith(b"\x89PNG")
    assert contents["PDF"].startswith(b"%PDF")
    assert b"plotly" in contents["HTML"]
    assert contents["CSV"].splitlines()[0] == b"start,size,angular distance,best start of its size"
    assert len(json.loads(contents["JSON"])["start"]) == 4 + 3 + 2 + 1


@pytest.mark.parametrize(("width", "pixels"), [("One column", 975), ("Two columns", 2025)])
def test_figures_are_as_wide_as_a_column_of_a_paper(page: Page, url: str, model: Path, width: str, pixels: int) -> None:
    visit(page, url, "analyse", model)
    drawn = find_plot(page, "angular-distance")
    before = drawn.evaluate("p => [p.clientWidth, p.layout.width || 0, p._fullLayout.font.size]")
    page.get_by_role("button", name="Download", exact=True).click()
    page.get_by_label("Width").select_option(width)
    contents = {}
    for label in ("PNG", "PDF", "SVG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=label, exact=True).click()
        contents[label] = Path(download.value.path()).read_bytes()
    png, pdf, svg = contents["PNG"], contents["PDF"], contents["SVG"].decode()
    assert int.from_bytes(png[16:20]) == pixels
    assert png[37:41] == b"pHYs"
    assert int.from_bytes(png[41:45]) == 11811
    assert f"/MediaBox [0 0 {pixels / 300 * 72:g} ".encode() in pdf
    assert pdf[int(pdf.split()[-2]) :].startswith(b"xref")
    assert f'width="{pixels / 300:g}in"' in svg
    assert "font-size: 10.6" in svg
    assert drawn.evaluate("p => [p.clientWidth, p.layout.width || 0, p._fullLayout.font.size]") == before


def test_the_pdf_of_a_heatmap_is_lines_areas_and_text(page: Page, url: str, model: Path) -> None:
    visit(page, url, "analyse", model)
    drawn = find_plot(page, "angular-distance")
    page.get_by_role("button", name="Download", exact=True).click()
    page.get_by_label("Width").select_option("One column")
    with page.expect_download() as download:
        page.get_by_role("button", name="PDF", exact=True).click()
    pdf = Path(download.value.path()).read_bytes()
    assert b"/Image" not in pdf
    found = re.search(rb"/Filter /FlateDecode /Length (\d+) >>\nstream\n", pdf)
    assert found
    content = zlib.decompress(pdf[found.end() : found.end() + int(found[1])]).decode("ascii")
    texts = [bytes.fromhex(text).decode("cp1252") for text in re.findall(r"<([0-9a-f]+)> Tj", content)]
    assert {"Block size", "Layer (for blocks: the first one)", "Angular distance"} <= set(texts)
    sizes = [float(size) for size in re.findall(r" ([\d.]+) Tf", content)]
    assert sizes == pytest.approx([8 * 4 / 3] * len(sizes), rel=1e-3)  # pixels of CSS: 8 pt
    cells = re.findall(r"([\d.]+ [\d.]+ [\d.]+) rg [-\d. ml]+ l h f$", content, re.M)
    assert len(cells) >= 4 + 3 + 2 + 1 + 3 * 4  # the triangle, and three strips of four layers under it
    assert content.count(" sh Q") == 2  # the bars of colour are gradients
    colour = drawn.evaluate("p => p.querySelector('.xy path.js-line').style.stroke")
    outline = " ".join(f"{int(part) / 255:.3f}".rstrip("0").rstrip(".") for part in re.findall(r"\d+", colour))
    assert f"{outline} RG" in content


def test_measures_are_shown_beside_each_other(page: Page, url: str, model: Path) -> None:
    visit(page, url, "analyse", model)
    page.get_by_text("Layers", exact=True).click()
    find_plot(page, "strips-block-influence")
    page.get_by_label("Measures", exact=True).click()
    page.get_by_role("option", name="Loss without it").click()
    page.keyboard.press("Escape")
    page.get_by_text("Measures", exact=True).first.click()  # at once, while the page is drawn anew
    expect(page.locator(".st-key-plot-rank-correlation")).to_be_visible()
    wait_for_plot(page, "rank-correlation", "plot._fullData[0].z.length === 4")


def test_pairs_are_scored_when_asked_for(page: Page, url: str, model: Path) -> None:
    visit(page, url, "analyse", model)
    page.get_by_text("Pairs", exact=True).click()
    page.get_by_role("button", name="Score all pairs").click()
    drawn = find_plot(page, "interactions")
    expect(page.locator(".st-key-work")).to_have_text("Work: none")
    expected = run_cli(model, "interactions")["pairs"]
    shown = find_plot(page, "interactions").evaluate("p => p._fullData[0].z")
    assert drawn
    assert shown[0][1] == pytest.approx(expected[0][1], abs=1e-5)
    assert shown[2][3] == pytest.approx(expected[2][3], abs=1e-5)


def test_tokens_are_coloured_under_a_mask(page: Page, url: str, model: Path) -> None:
    visit(page, url, "analyse", model)
    page.get_by_text("Tokens", exact=True).click()
    expect(page.get_by_text("Nothing is removed.")).to_be_visible()
    visit(page, url, "analyse", model, "a1,3")
    page.get_by_text("Tokens", exact=True).click()
    passage = page.locator(".st-key-passage")
    expect(passage).to_be_visible()
    assert passage.locator("span[style]").count() == WINDOW - 1
    lost = run_cli(model, "score", "--mask", "a1,3")["scores"]
    first = (lost[1]["window_nll"][0] - lost[0]["window_nll"][0]) / (WINDOW - 1)
    expect(page.get_by_text(f"{first:+.3f} nats a token")).to_be_visible()


def test_another_text_stands_beside(page: Page, url: str, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "<b>notes.txt"
    text.write_text("An entirely different text, about sheep and clouds and nothing else. " * 40)
    visit(page, url, "analyse", model)
    page.get_by_text("Side by side", exact=True).click()
    page.get_by_label("Texts beside it").fill(str(text))
    page.get_by_role("button", name="Compare").click()
    drawn = wait_for_plot(page, "side-by-side", "plot._fullData.length === 3")
    assert drawn.evaluate("p => p.querySelectorAll('b').length") == 0
    find_plot(page, "agreement-of-texts")


def test_plans_are_compared_and_a_step_goes_to_explore(page: Page, url: str, model: Path) -> None:
    visit(page, url, "plans", model)
    expect(page.locator(".st-key-work")).to_have_text("Work: none")
    drawn = find_plot(page, "plans-perplexity")
    traces = drawn.evaluate("p => p._fullData.map(t => [t.name, t.mode, [...(t.customdata || [])], [...t.y]])")
    lines = {name: (masks, y) for name, mode, masks, y in reversed(traces) if mode == "lines+markers"}
    assert set(lines) == {"Deepest", "Similarity block", "Block influence"}
    masks, perplexities = lines["Block influence"]
    expected = run_cli(model, "plan", "--method", "block-influence")["steps"]
    assert masks == [step["mask"] for step in expected]
    assert perplexities == pytest.approx([step["perplexity"] for step in expected], rel=1e-4)
    index = next(i for i, (name, mode, *_) in enumerate(traces) if (name, mode) == ("Block influence", "lines+markers"))
    click_cell(page, "plans-perplexity", index, 1)
    expect(page.locator(".st-key-offer")).to_contain_text("Removed:")
    page.get_by_role("button", name="Take it to Explore").click()
    expect(page).to_have_url(re.compile(r"/\?.*mask=\d"))


def test_options_that_make_no_plan_are_one_line(page: Page, url: str, model: Path) -> None:
    visit(page, url, "plans", model)
    page.get_by_text("Options").click()
    page.get_by_role("textbox", name="Budget").fill("half")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Malformed budget")).to_be_visible()


def test_a_page_can_be_left_while_it_is_busy(page: Page, url: str, model: Path) -> None:
    visit(page, url, "plans", model)
    methods = page.locator(".stMultiSelect").filter(has_text="Methods")
    methods.get_by_role("combobox").click()
    page.get_by_role("option", name="Magnitude").click()
    page.keyboard.press("Escape")
    expect(methods.locator("[data-tag]").filter(has_text="Magnitude")).to_be_visible()
    page.get_by_role("link", name="Explore", exact=True).first.click()
    expect(page.locator(".instrument .tag")).to_have_text("measured")


def test_plan_files_stand_beside_what_they_were_made_of(page: Page, url: str, model: Path, tmp_path: Path) -> None:
    made = run_cli(model, "plan", "--method", "block-influence")
    for name, changes in {"one": {}, "two": {}, "bad": {"steps": [{"mask": "none"}, {"mask": "x"}]}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(made | changes))
    visit(page, url, "plans", model)
    page.get_by_text("Plan files", exact=True).first.click()
    files = [tmp_path / f"{name}.json" for name in ("one", "two", "bad")]
    page.locator("input[type=file]").first.set_input_files(files)
    expect(page.get_by_text(re.compile(r"bad\.json: Not a plan"))).to_be_visible()
    for number in (1, 2, 3):
        expect(page.get_by_role("button", name=f"Block influence {number}", exact=True)).to_be_visible()
    page.get_by_role("link", name="Explore", exact=True).first.click()
    expect(page.locator(".instrument .tag")).to_have_text("measured")
    page.get_by_role("link", name="Plans", exact=True).first.click()
    expect(page.get_by_role("button", name="Block influence 3", exact=True)).to_be_visible()
    page.get_by_text("Plan files", exact=True).first.click()
    page.get_by_role("button", name="one.json").click()
    expect(page.get_by_role("button", name="Block influence 3", exact=True)).to_have_count(0)
    expect(page.get_by_role("button", name="two.json")).to_be_visible()
    assert page.locator("[data-testid=stException]").count() == 0
