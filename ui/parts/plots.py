"""A figure with what belongs to it: clicks, downloads, a caption to copy, and a table of its numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from plotly.utils import PlotlyJSONEncoder

from explorer.charts import WIDTHS, fit_to_paper
from explorer.jsonable import to_json
from ui import session
from ui.parts.captions import write_caption

Table = Mapping[str, Sequence[Any]]

_FOLDER = Path(__file__).parent
_CSS = """
div { display: flex; gap: .5rem; align-items: center; font: .8125rem var(--st-font); color: var(--st-text-color); }
button {
  font: inherit; color: inherit; background: transparent; cursor: pointer; padding: .25rem .6rem;
  border: 1px solid var(--st-border-color); border-radius: .5rem;
}
select {
  font: inherit; color: inherit; background: var(--st-background-color); border: 1px solid var(--st-border-color);
  border-radius: .5rem; padding: .25rem;
}
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }
"""
_ON_PAGE = "As on the page"
_images = st.components.v2.component(
    "figure_images",
    html='<div><select aria-label="Width">'
    + "".join(f"<option>{name}</option>" for name in (_ON_PAGE, *WIDTHS))
    + "</select>"
    + "".join(f'<button type="button" data-format="{each.lower()}">{each}</button>' for each in ("PNG", "SVG", "PDF"))
    + '<span role="status"></span></div>',
    css=_CSS,
    js="\n".join((_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in ("paths", "pdf", "downloads")),
)


def draw_plot(figure: go.Figure, name: str, table: Table, alt: str, clickable: bool = False) -> Any | None:
    """Draw a figure and what belongs to it; return what the point that is selected carries, if any.

    Args:
        figure: the figure.
        name: unique on the page, letters and hyphens; the files' name.
        table: its numbers, column by column.
        alt: what it shows, in words, for those who cannot see it.
        clickable: whether a click on a point selects it.
    """
    with st.container(key=f"plot-{name}"):
        event: Any = st.plotly_chart(
            figure,
            key=name,
            on_select="rerun" if clickable else "ignore",
            selection_mode="points",
            config={"displaylogo": False, "toImageButtonOptions": {"filename": name}},
            alt=alt,
        )
    with st.popover("Download", type="tertiary", key=f"download {name}"):
        _offer_files(figure, name, table)
        st.caption("Caption")
        st.code(write_caption(alt, session.read(session.Shown).view), language=None, wrap_lines=True)
    with st.expander("Table"):
        st.dataframe(dict(table), hide_index=True, width="stretch")
    points = event["selection"]["points"] if clickable else []
    carried = points[0].get("customdata") if points else None
    return list(carried.values()) if isinstance(carried, dict) else carried  # a row of an array comes as a dict


def _offer_files(figure: go.Figure, name: str, table: Table) -> None:
    layouts = {width: json.loads(json.dumps(fit_to_paper(figure, width), cls=PlotlyJSONEncoder)) for width in WIDTHS}
    _images(key=f"images {name}", data={"plot": f"plot-{name}", "name": name, "layouts": layouts}, height="content")
    st.caption(
        "PNG: 300 dpi. SVG and PDF: lines, areas and text. In a column's width text has 8 pt, on white. "
        "The PDF names Helvetica, it does not hold it."
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for label, kind, content in (
            ("HTML", "text/html", lambda: figure.to_html(config={"displaylogo": False})),
            ("CSV", "text/csv", lambda: write_csv(table)),
            ("JSON", "application/json", lambda: write_json(table)),
        ):
            st.download_button(
                label,
                content,
                f"{name}.{label.lower()}",
                kind,
                key=f"{label} {name}",
                on_click="ignore",
                type="tertiary",
            )


def write_csv(table: Table) -> str:
    """Write columns as CSV, numbers in full."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return file.getvalue()


def write_json(table: Table) -> str:
    """Write columns as a JSON object of lists; what is not finite is null."""
    return json.dumps(to_json(table), allow_nan=False)
