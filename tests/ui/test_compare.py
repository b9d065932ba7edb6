"""Compare: variants as text, the tables that are taken along, which rows of the history are shown."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import numpy as np
import pytest

from explorer.deltas.modifier_spec import read_modifiers
from explorer.evaluation.scores import Overflow, Score
from explorer.masks.mask import Mask
from explorer.model.cost_model import Costs
from explorer.plans.points import Point
from explorer.storage.stars import Star
from ui.compare.comparison import Column, sort_columns
from ui.compare.history import Filter, list_rows
from ui.compare.lines import list_lines
from ui.compare.tables import Line, write_comparison_csv, write_latex, write_markdown
from ui.compare.variants import MOST, Tried, read_variants, write_variants

ONE = Tried(Mask.parse("1,a2"))
TWO = Tried(Mask.parse("3"), read_modifiers("linear,rank=64,wanda,pattern=2:4"))
THREE = Tried(modify=read_modifiers("wanda"))


def make_point(tried: Tried, nats: float, parameters: int, overflow: Overflow | None = None) -> Point:
    own = np.array([nats, nats + 1]) * 10 if overflow is None else np.array([np.inf, 1])
    score = Score(tried.mask, own, np.array([20.0, 21.0]), 10, np.array([40, 40]), overflow)
    point = Point(tried.mask, tried.modify, 16, 1.0, 1.0, score.perplexity)
    return replace(point, score=score, costs=Costs(parameters, 2 * parameters, 64, 2048))


WHOLE, FIRST, SECOND = make_point(Tried(), 2.0, 1000), make_point(ONE, 3.0, 900), make_point(TWO, 2.5, 950)


def test_a_link_holds_variants_as_text() -> None:
    text = write_variants([ONE, TWO, THREE])
    assert text == "1,a2~3:linear,rank=64,wanda,pattern=2:4~none:wanda"
    assert read_variants(text, 4) == ([ONE, TWO, THREE], [])
    assert read_variants("", 4) == ([], [])


@pytest.mark.parametrize("wrong", ["9", "x", "1:nonsense", "1:linear,rank", "1:linear,rank=none", "<b>", "1:" * 500])
def test_what_a_link_says_wrongly_is_left_out_and_said(wrong: str) -> None:
    found, (notice,) = read_variants(f"1,a2~{wrong}~none:wanda", 4)
    assert found == [ONE, THREE]
    assert notice.startswith("A variant of the link was skipped. ")


def test_a_link_compares_each_variant_once_and_not_too_many() -> None:
    assert read_variants("1~1~none~m1,a1", 4)[0] == [Tried(Mask.parse("1"))]
    found, (notice,) = read_variants("~".join(f"a{layer}" for layer in range(20)), 20)
    assert (len(found), notice) == (MOST, f"The link's first {MOST} variants are compared; there are 20.")


def test_titles_and_keys() -> None:
    assert (TWO.title, Tried().title) == ("3 + linear;rank=64 + wanda;pattern=2:4", "Unpruned")
    assert [Tried.parse(each.key) for each in (ONE, TWO, THREE, Tried())] == [ONE, TWO, THREE, Tried()]


def test_the_best_of_the_pruned_is_bold_and_ties_are_shared() -> None:
    assert Line("x", ("", "", "", ""), (1.0, 3.0, 2.0, 2.0), True).best == (False, False, True, True)
    assert Line("x", ("", "", ""), (1.0, None, 2.0), True).best == (False,) * 3
    assert Line("x", ("", "", ""), (1.0, 2.0, 2.0), True).best == (False,) * 3
    assert Line("x", ("", "", ""), (9.0, 2.0, 3.0), False).best == (False, False, True)
    assert Line("x", ("", "")).best == (False, False)


HOSTILE = r"50% & $x_1$ \input{a} #~^ <b>|"
LINES = [Line("Perplexity", ("1.00", "2.50", "3.00"), (1.0, 2.5, 3.0), True), Line("Removed\nhere", ("–", HOSTILE, ""))]


def test_latex_is_booktabs_and_sets_what_was_written() -> None:
    written = write_latex(["Unpruned", HOSTILE, "b"], LINES)
    lines = written.splitlines()
    assert lines[:2] == [r"\begin{tabular}{lrrr}", r"\toprule"]
    assert lines[3] == r"\midrule"
    assert lines[4] == r"Perplexity & 1.00 & \textbf{2.50} & 3.00 \\"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    escaped = (
        r"50\% \& \$x\_1\$ \textbackslash{}input\{a\} \#\textasciitilde{}\textasciicircum{} "
        r"\textless{}b\textgreater{}\textbar{}"
    )
    assert lines[5] == rf"Removed here & -- & {escaped} &  \\"
    for line in lines[2:-2]:
        if "&" in line:
            assert len(re.findall(r"(?<!\\)&", line)) == 3


def test_markdown_is_a_table_of_plain_text() -> None:
    lines = write_markdown(["Unpruned", HOSTILE, "b"], LINES).splitlines()
    assert lines[2] == "| Perplexity | 1.00 | **2.50** | 3.00 |"
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 5
    assert "<b>" not in lines[0].replace(r"\<b\>", "")


def test_csv_has_a_variant_a_row_with_numbers_in_full() -> None:
    rows = list(csv.reader(io.StringIO(write_comparison_csv(["Unpruned", HOSTILE, "b"], LINES))))
    assert rows == [
        ["variant", "Perplexity", "Removed\nhere"], ["Unpruned", "1.0", "–"], [HOSTILE, "2.5", HOSTILE],
        ["b", "3.0", ""],
    ]  # fmt: skip


def test_lines_have_what_was_measured_and_say_what_was_not() -> None:
    beyond = make_point(THREE, 2.0, 1000, Overflow("float16", 1, 4))
    lines = {
        each.label: each for each in list_lines([WHOLE, FIRST, SECOND, None, beyond], ["", "", "", "measuring", ""])
    }
    perplexity = lines["Perplexity"]
    assert perplexity.cells == ("12.18", "33.12", "20.09", "measuring", "overflow (float16, from layer 1)")
    assert perplexity.best == (False, False, True, False, False)
    assert lines["Parameters"].best == (False, True, False, False, False)
    assert lines["Parameters left"].cells == ("100.0%", "90.0%", "95.0%", "", "100.0%")
    assert lines["Nats a token more"].cells[0] == "–"
    assert lines["Nats a token more"].cells[1].startswith("+1.4500 [")
    assert lines["95% interval"].cells[3:] == ("", "–")


def test_columns_are_sorted_and_what_has_no_number_comes_last() -> None:
    columns = [Column(THREE, None, "measuring"), Column(ONE, FIRST), Column(TWO, SECOND)]
    assert [each.tried for each in sort_columns(columns, "As chosen")] == [THREE, ONE, TWO]
    assert [each.tried for each in sort_columns(columns, "Perplexity")] == [TWO, ONE, THREE]
    assert [each.tried for each in sort_columns(columns, "Parameters")] == [ONE, TWO, THREE]


def test_rows_are_filtered_by_words_by_stars_and_by_cost() -> None:
    stars = {ONE: Star(True, "My best"), TWO: Star(False, "")}
    known = {ONE: FIRST, TWO: SECOND, THREE: None}

    def find(chosen: Filter) -> list[Tried]:
        return [
            tried for tried, point in known.items()
            if chosen.lets_through(tried, stars.get(tried, Star()), point, WHOLE)
        ]  # fmt: skip

    assert find(Filter()) == [ONE, TWO, THREE]
    assert find(Filter("best MY")) == [ONE]
    assert find(Filter("wanda")) == [TWO, THREE]
    assert find(Filter("a2")) == [ONE]
    assert find(Filter(starred=True)) == [ONE]
    assert find(Filter(most=0.92)) == [ONE]
    assert find(Filter(most=0.92, of="flops")) == []
    rows = list_rows([ONE, THREE], [FIRST, None], stars, [THREE])
    assert (rows["name"], rows["starred"], rows["compare"]) == (["My best", ""], [True, False], [False, True])
    assert (rows["parameters"], rows["perplexity"][1], rows["low"][1]) == ([900, None], None, None)
    assert rows["modifiers"] == ["", "wanda"]
