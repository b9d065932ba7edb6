"""The view Side by side: the unpruned model and what is compared, with numbers, intervals and texts in columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from explorer.charts import COSTS, draw_beside
from explorer.execution import Job, ModelSummary, View, request_recovery
from explorer.masks import NONE
from explorer.modifiers import MODIFIERS
from explorer.plans import Point
from explorer.storage import Star
from ui import session
from ui.browser import read, read_scripts
from ui.compare.lines import list_lines
from ui.compare.points import find_points, is_finite, make_own_point
from ui.compare.stars import compare, describe_titles, list_compared, list_stars
from ui.compare.tables import Line, write_comparison_csv, write_latex, write_markdown
from ui.compare.variants import MOST, Tried, write_variants
from ui.explore import choose_prompts, write_cells
from ui.live import describe_progress, get_engine, get_owner, watch
from ui.parts import define, draw_plot
from ui.view import compare_variants, get_compared, get_view, note_compared, take_to_explore

SORTS = ("As chosen", "Perplexity", *(title for title, _ in COSTS.values()))
_MOST_PROMPTS = 7

_comparison = st.components.v2.component(
    "comparison", html='<div class="comparison"></div>', css=read("comparison.css"), js=read_scripts("comparison")
)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The slots of the texts that were asked for last."""

    slots: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Column:
    """A variant that is compared.

    Args:
        tried: the variant.
        point: what was measured of it, if it was.
        state: in the place of numbers, while there are none.
    """

    tried: Tried
    point: Point | None = None
    state: str = ""


def draw_comparison(summary: ModelSummary) -> None:
    """Draw the unpruned model and what is compared as columns of one table."""
    chosen, stars = list_compared(summary)[:MOST], list_stars(summary)
    note_compared(write_variants(chosen))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        sort = st.selectbox("Sort by", SORTS, key="comparison sort", width=220)
        if get_compared() is not None:
            st.button("Compare what is starred", on_click=compare_variants, args=(None,))
    if not chosen:
        st.text(
            "Nothing is chosen. “Star this” on the Explore page puts a variant here, and so does a tick in History."
        )
        st.page_link("pages/explore.py", label="Explore")
        return
    columns = _find_columns(summary, [Tried(), *chosen])
    if columns is None:
        return
    columns = [columns[0], *sort_columns(columns[1:], sort)]
    names = describe_titles([each.tried for each in columns], stars)
    lines = list_lines([each.point for each in columns], [each.state for each in columns])
    _draw_dots(columns, names)
    _draw_table(summary, columns, names, lines, stars)


def _find_columns(summary: ModelSummary, tried: Sequence[Tried]) -> list[Column] | None:
    """Take what the store knows, and ask for the rest; None while the store is read."""
    points = find_points(summary)
    if points is None:
        return None
    known = {Tried(point.mask, point.modifiers): point for point in points}
    return [
        Column(each, known[each]) if each in known else _measure(summary, each, f"compare {number}")
        for number, each in enumerate(tried)
    ]


def _view_of(tried: Tried) -> View:
    view = replace(get_view(), mask=tried.mask, modify=tried.modify)
    return view if tried.modify else view.pruned


def _measure(summary: ModelSummary, tried: Tried, slot: str) -> Column:
    """Ask for a variant's score; what has to be trained is not begun by looking at it."""
    view, engine, owner = _view_of(tried), get_engine(), get_owner()
    trains = any(MODIFIERS[spec.name].trains for spec in tried.modify)
    if tried.modify and (not view.recovers or (trains and not engine.runs(request_recovery(view), or_done=True))):
        return Column(tried, state="not measured")
    job = watch(engine.recover(owner, view, slot) if tried.modify else engine.score(owner, view, slot), partial=True)
    if job.state != "done":
        return Column(tried, state=_describe_wait(job))
    score, added = (job.result.score, job.result.parameters_added) if tried.modify else (job.result, 0)
    return Column(tried, make_own_point(summary, tried, score, added, view.quantize))


def _describe_wait(job: Job) -> str:
    if job.state == "failed":
        return str(job.error)
    return "stopped" if job.state == "cancelled" or job.cancelling else describe_progress(job) or "measuring"


def sort_columns(columns: Sequence[Column], sort: str) -> list[Column]:
    """Sort what is compared; what has no numbers yet comes last."""
    if sort == SORTS[0]:
        return list(columns)
    cost = next((each for title, each in COSTS.values() if title == sort), None)

    def order(column: Column) -> tuple[bool, float]:
        point = column.point
        if point is None or point.perplexity is None or point.costs is None:
            return True, 0.0
        return False, point.perplexity if cost is None else cost(point.costs)

    return sorted(columns, key=order)


def _draw_dots(columns: Sequence[Column], names: Sequence[str]) -> None:
    """Draw the perplexities with their intervals."""
    drawn = [
        (column.tried, column.point, name)
        for column, name in zip(columns, names, strict=True)
        if column.point is not None and is_finite(column.point)
    ]
    if not drawn or drawn[0][0]:
        return
    scores = [point.score for _, point, _ in drawn]
    intervals = [score.perplexity_ci95 if score is not None else None for score in scores]
    table: dict[str, list[Any]] = {
        "variant": [name for _, _, name in drawn],
        "perplexity": [point.perplexity for _, point, _ in drawn],
        "low": [ends and ends[0] for ends in intervals],
        "high": [ends and ends[1] for ends in intervals],
    }
    figure = draw_beside([point for _, point, _ in drawn], [name for _, _, name in drawn])
    draw_plot(figure, "beside", table, "Held-out perplexity of each variant with its 95% interval.")


def _draw_table(
    summary: ModelSummary,
    columns: Sequence[Column],
    names: Sequence[str],
    lines: Sequence[Line],
    stars: dict[Tried, Star],
) -> None:
    """Draw numbers and texts in columns, and the table as files."""
    place = st.container()
    prompts = choose_prompts(summary.chat)
    texts = _write_texts(columns, prompts.texts, prompts.tokens, prompts.chat)
    shown = [
        {
            "name": name,
            "title": column.tried.title,
            "cells": write_cells(column.tried.mask, summary.n_layers),
            "values": [{"text": line.cells[number], "best": line.best[number]} for line in lines],
            "known": column.point is not None,
            "texts": texts[number],
            "chosen": bool(column.tried),
        }
        for number, (column, name) in enumerate(zip(columns, names, strict=True))
    ]

    def open_variant() -> None:
        tried = columns[int(st.session_state["comparison"]["open"])].tried
        take_to_explore(tried.mask, tried.modify)

    with place:
        _comparison(
            key="comparison",
            data={"variants": shown, "labels": [line.label for line in lines], "prompts": list(prompts.texts)},
            on_open_change=open_variant,
            on_remove_change=lambda: compare(
                summary, columns[int(st.session_state["comparison"]["remove"])].tried, wanted=False
            ),
        )
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            for label, kind, write, ending in (
                ("Markdown", "text/markdown", write_markdown, "md"),
                ("LaTeX", "text/x-tex", write_latex, "tex"),
                ("CSV", "text/csv", write_comparison_csv, "csv"),
            ):
                content = write(names, lines)
                st.download_button(
                    label, content, f"comparison.{ending}", kind, key=f"comparison {ending}", on_click="ignore"
                )
        with st.expander("LaTeX and Markdown to copy"):
            st.code(write_latex(names, lines), "latex")
            st.code(write_markdown(names, lines), "markdown")
        st.caption(
            "Bold: the best of the pruned ones. The page's link holds what is compared. "
            + define("mask", "interval", "nat", "modifier", "KV cache bytes", "FLOPs per token")
        )


def _write_texts(columns: Sequence[Column], prompts: Sequence[str], tokens: int, chat: bool) -> list[list[str]]:
    """Ask for each variant's texts, of those that are measured; return them as far as they are written."""
    engine, owner, wanted = get_engine(), get_owner(), set[str]()
    found = []
    for column in columns:
        texts = []
        for number, prompt in enumerate(prompts):
            if column.point is None:
                texts.append("")
                continue
            slot = f"compare/{column.tried.key}/{number}"
            wanted.add(slot)
            view = _view_of(column.tried) if column.tried else replace(get_view().pruned, mask=NONE)
            texts.append(_describe_text(watch(engine.sample(owner, slot, view, prompt, tokens, chat), partial=True)))
        found.append(texts)
    engine.worker.release(owner, sorted(session.read(Texts).slots - wanted))
    session.change(Texts, slots=frozenset(wanted))
    return found


def _describe_text(job: Job) -> str:
    if job.state == "done":
        return f"{job.result.text} (overflow)" if job.result.overflow else job.result.text or "(nothing)"
    if job.state == "failed":
        return str(job.error)
    return f"{job.partial} (writing)" if job.active and isinstance(job.partial, str) else _describe_wait(job)
