"""The view History: every variant that was measured, as a dot against a cost and as a row to star, name and set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from explorer.charts import COSTS, draw_history
from explorer.deltas import write_modifiers
from explorer.execution import ModelSummary
from explorer.plans import Point
from explorer.storage import Star
from ui import session
from ui.compare.points import find_points
from ui.compare.stars import compare, describe_titles, list_compared, list_stars, name, star
from ui.compare.variants import MOST, Tried
from ui.parts import define, draw_plot, escape_markdown, kept, write_csv
from ui.view import take_to_explore

SORTS = ("Perplexity", "Cost", "Starred")
_EDITED = ("set", "compare", "starred", "name")


@dataclass(frozen=True, kw_only=True)
class Edits:
    """How often rows of the table were edited, after which it is another table."""

    count: int = 0


@dataclass(frozen=True)
class Filter:
    """Which rows are shown.

    Args:
        words: that all are in the mask, the modifiers or the name.
        starred: only those that are starred.
        of: the cost, a name in `COSTS`.
        most: of it, as a share of the unpruned model's.
    """

    words: str = ""
    starred: bool = False
    of: str = "parameters"
    most: float = 1.0

    def lets_through(self, tried: Tried, kept: Star, point: Point | None, whole: Point | None) -> bool:
        """Tell whether a row is shown; one that was not measured has no cost, and passes where none is asked for."""
        said = f"{tried.title} {write_modifiers(tried.modify)} {kept.name}".lower()
        if not all(word in said for word in self.words.lower().split()) or (self.starred and not kept.starred):
            return False
        if self.most >= 1:
            return True
        cost = COSTS[self.of][1]
        if point is None or point.costs is None or whole is None or whole.costs is None:
            return False
        return cost(point.costs) <= self.most * cost(whole.costs)


def draw_tried(summary: ModelSummary) -> None:
    """Draw what the store knows of this model and text."""
    points = find_points(summary)
    if points is None:
        return
    stars = list_stars(summary)
    known = {Tried(point.mask, point.modifiers): point for point in points}
    chosen, sort = _draw_filter()
    shown = [
        (tried, known.get(tried))
        for tried in dict.fromkeys((*known, *stars))
        if chosen.lets_through(tried, stars.get(tried, Star()), known.get(tried), known.get(Tried()))
    ]
    shown = _sort(shown, stars, chosen.of, sort)
    rows = list_rows([tried for tried, _ in shown], [point for _, point in shown], stars, list_compared(summary))
    _draw_chart(summary, shown, stars, chosen.of, rows)
    _draw_table(summary, [tried for tried, _ in shown], rows)
    st.caption(
        "Everything that was scored on these windows, in any session; the line is the front: what nothing beats in "
        "both. Stars and names are the same for everybody on this server. "
        + define("mask", "modifier", "held-out", "window", "interval", "nat", "KV cache bytes", "FLOPs per token")
    )


def _draw_filter() -> tuple[Filter, str]:
    """Draw by what rows are chosen and sorted."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        of = st.segmented_control(
            "Cost", list(COSTS), format_func=lambda each: COSTS[each][0], default=next(iter(COSTS)), required=True,
            **kept("history cost"),
        )  # fmt: skip
        most = st.number_input(
            "Cost at most, %", 1, 100, 100, 5, **kept("history most"), width=130, help="Of the unpruned model's"
        )
        words = st.text_input(
            "Filter by words", **kept("history words"), max_chars=200, width=150,
            help="All of them are in what is removed, in the modifiers or in the name",
        )  # fmt: skip
        sort = st.selectbox("Sort by", SORTS, **kept("history sort"), width=130)
        starred = st.toggle("Starred only", **kept("history starred"))
    return Filter(words, starred, of, most / 100), sort


def _sort(
    shown: Sequence[tuple[Tried, Point | None]], stars: Mapping[Tried, Star], of: str, sort: str
) -> list[tuple[Tried, Point | None]]:
    """Sort rows, what was not measured last; among equals the better comes first."""

    def order(row: tuple[Tried, Point | None]) -> tuple[Any, ...]:
        tried, point = row
        if point is None or point.perplexity is None or point.costs is None:
            return True, 0.0, 0.0
        cost = COSTS[of][1](point.costs)
        starred = -float(tried in stars and stars[tried].starred)
        first = {"Perplexity": point.perplexity, "Cost": cost, "Starred": starred}[sort]
        return False, first, point.perplexity

    return sorted(shown, key=order)


def list_rows(
    tried: Sequence[Tried], points: Sequence[Point | None], stars: Mapping[Tried, Star], compared: Sequence[Tried]
) -> dict[str, list[Any]]:
    """List variants, column by column; None where nothing was measured."""
    held = [stars.get(each, Star()) for each in tried]
    scores = [None if point is None else point.score for point in points]
    intervals = [score and score.perplexity_ci95 for score in scores]
    costs = [None if point is None else point.costs for point in points]
    return {
        "set": [False] * len(tried),
        "starred": [each.starred for each in held],
        "compare": [each in compared for each in tried],
        "name": [each.name for each in held],
        "mask": [str(each.mask) for each in tried],
        "modifiers": [write_modifiers(each.modify) for each in tried],
        "perplexity": [score and score.perplexity for score in scores],
        "low": [ends and ends[0] for ends in intervals],
        "high": [ends and ends[1] for ends in intervals],
        "difference": [score and score.delta_nll_per_token for score in scores],
        **{of: [each and cost(each) for each in costs] for of, (_, cost) in COSTS.items()},
    }


def _draw_chart(
    summary: ModelSummary,
    shown: Sequence[tuple[Tried, Point | None]],
    stars: Mapping[Tried, Star],
    of: str,
    rows: dict[str, list[Any]],
) -> None:
    """Draw the dots, and what can be done with the one that is selected."""
    drawn = [(tried, point) for tried, point in shown if point is not None]
    if not drawn:
        st.text("Nothing that was measured passes the filter.")
        return
    titles = describe_titles([tried for tried, _ in drawn], dict(stars))
    starred = {place for place, (tried, _) in enumerate(drawn) if tried in stars and stars[tried].starred}
    figure = draw_history([point for _, point in drawn], titles, starred, of)
    table = {column: values for column, values in rows.items() if column not in ("set", "compare")}
    alt = "Held-out perplexity of every measured variant against a cost, with intervals and the front."
    if clicked := draw_plot(figure, "history", table, alt, clickable=True):
        tried = Tried.parse(":".join(clicked))
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.text(tried.title)
            st.button("Set this", key="set clicked", on_click=take_to_explore, args=(tried.mask, tried.modify))
            is_on = tried in stars and stars[tried].starred
            st.button(
                "Unstar" if is_on else "Star", key="star clicked", on_click=star, args=(summary, tried, not is_on),
                disabled=not tried,
            )  # fmt: skip


def _draw_table(summary: ModelSummary, tried: Sequence[Tried], rows: dict[str, list[Any]]) -> None:
    """Draw the rows; a tick or a name is taken at once, and the table is drawn anew with it."""
    if not tried:
        return
    key = f"history table {session.read(Edits).count} {hash(tuple(tried))}"

    def take() -> None:
        edits = st.session_state[key]["edited_rows"]
        session.change(Edits, count=session.read(Edits).count + 1)
        take_edits(summary, tried, edits)

    columns = st.column_config
    number = columns.NumberColumn
    with st.container(key="history-table"):
        st.data_editor(
            rows, key=key, on_change=take, hide_index=True, width="stretch", num_rows="fixed",
            disabled=[column for column in rows if column not in _EDITED],
            column_config={
                "set": columns.CheckboxColumn("Set this", help="Go to Explore with this variant", width=100),
                "starred": columns.CheckboxColumn("Star", width=75),
                "compare": columns.CheckboxColumn("Compare", help=f"Side by side, {MOST} at the most", width=105),
                "name": columns.TextColumn("Name", max_chars=200, width=130),
                "mask": columns.TextColumn("Removed", width=150),
                "modifiers": columns.TextColumn("Modifiers", width=130),
                "perplexity": number("Perplexity", format="%.2f"),
                "low": number("Low", format="%.2f", help="Lower end of the 95% interval"),
                "high": number("High", format="%.2f", help="Upper end of the 95% interval"),
                "difference": number("Nats more", format="%.4f", help="A token, against the unpruned model"),
                "parameters": number("Parameters", format="compact"),
                "bytes": number("Weights", format="bytes"),
                "kv_bytes": number("KV per token", format="bytes"),
                "flops": number("FLOPs per token", format="compact"),
            },
        )  # fmt: skip
    content = {column: values for column, values in rows.items() if column not in ("set", "compare")}
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.download_button(
            "Table as CSV", lambda: write_csv(content), "history.csv", "text/csv", key="history csv", on_click="ignore"
        )
        st.caption(escape_markdown(f"Variants: {len(tried)}"))


def take_edits(summary: ModelSummary, tried: Sequence[Tried], edits: Mapping[int, Mapping[str, Any]]) -> None:
    """Do what was ticked or written in rows of the table; for callbacks."""
    for place, changes in edits.items():
        each = tried[int(place)]
        if "name" in changes and each:
            name(summary, each, changes["name"] or "")
        if "starred" in changes and each:
            star(summary, each, bool(changes["starred"]))
        if "compare" in changes and each:
            compare(summary, each, bool(changes["compare"]))
        if changes.get("set"):
            take_to_explore(each.mask, each.modify)
