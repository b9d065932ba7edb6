"""What the Analyse, Plans and Export pages write: escaped text, tables, files."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
from streamlit.testing.v1 import AppTest

from explorer.execution.measuring import Passage
from explorer.masks.mask import Mask
from explorer.measures.importance import Importance
from explorer.measures.interactions import Interactions
from ui.analyse.importances import list_importances
from ui.analyse.interaction_map import list_pairs
from ui.analyse.passages import write_passage
from ui.parts.plots import write_csv, write_json

TABLE = {"name": ["a,b", 'say "x"'], "value": [0.1 + 0.2, np.float64("nan")], "count": [np.int64(3), None]}


def test_tables_survive_their_files() -> None:
    rows = list(csv.reader(io.StringIO(write_csv(TABLE))))
    assert rows[0] == ["name", "value", "count"]
    assert rows[1] == ["a,b", repr(0.1 + 0.2), "3"]
    assert json.loads(write_json(TABLE)) == {"name": TABLE["name"], "value": [0.1 + 0.2, None], "count": [3, None]}


def test_no_mark_of_a_model_card_is_shown_where_an_export_is_chosen() -> None:
    script = """
from explorer.execution import ExportPreview
from explorer.export import FORMATS
from ui.export.format_choice import OFFERED, choose_target, draw_target
refused = ExportPreview(refused="transformers gives the same with `skip` and without.")
choose_target({name: refused if name == "transformers-skip" else ExportPreview() for name in OFFERED})
for name in FORMATS:
    draw_target(name, ExportPreview(), 1)
"""
    app = AppTest.from_string(script, default_timeout=60).run()
    assert not app.exception
    shown = [
        *(caption for radio in app.radio for caption in radio.proto.captions),
        *(each.value for each in app.caption),
    ]
    assert len(shown) > len(app.caption) > 1
    assert [text for text in shown if "`" in text] == []


def test_a_passage_is_escaped_and_coloured_by_what_it_costs() -> None:
    found = Passage(("<s>", "<b>bold</b>", "&", "\ud800"), np.array([1.0, 2.0, 3.0]), np.array([5.0, 1.0, 3.0]))
    written = write_passage(found)
    assert "<b>" not in written
    assert "&lt;b&gt;bold&lt;/b&gt;" in written
    assert "&amp;" in written
    first, worse, better, same = written.split("<span")[1:]
    assert "style" not in first
    assert "underline" in worse
    assert "1.00 to 5.00 nats" in worse
    assert "overline" in better
    assert "line rgb" not in same


def test_importances_are_listed_with_ranks_and_stability() -> None:
    values = np.array([0.3, 0.1, 0.2])
    samples = values + np.random.default_rng(0).normal(0, 1e-3, (8, 3))
    table = list_importances([Importance("loss", "layer", values, samples), Importance("magnitude", "mlp", values)], 1)
    assert table["unit"] == ["Layer"] * 3 + ["MLP"] * 3
    assert table["rank"] == [3, 1, 2, 3, 1, 2]
    assert table["among 1"] == [0, 1, 0, None, None, None]
    assert all(
        low <= value <= high for low, value, high in zip(*(table[c][:3] for c in ("low", "value", "high")), strict=True)
    )


def test_pairs_that_are_known_are_listed() -> None:
    pairs = np.array([[np.nan, 0.5, np.nan], [0.5, np.nan, -2.0], [np.nan, -2.0, np.nan]])
    units = tuple(Mask.of_layers([i]) for i in range(3))
    table = list_pairs(Interactions(units, np.array([0.1, 0.2, 0.3]), pairs, np.isfinite(pairs).astype(int), 1))
    assert list(zip(table["one"], table["other"], table["interaction"], strict=True)) == [
        ("0", "1", 0.5),
        ("1", "2", -2.0),
    ]
