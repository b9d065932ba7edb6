"""What is starred and named of the model and text that are loaded; what is compared of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from explorer.execution import ModelSummary, View
from explorer.storage import Star
from ui import session
from ui.compare.pins import draw_keeper, get_pins, set_pins
from ui.compare.variants import Tried, read_variants, write_variants
from ui.live import get_engine, rerun_panels
from ui.view import Messages, compare_variants, get_compared, get_view, notify, read_view


def list_stars(summary: ModelSummary) -> dict[Tried, Star]:
    """List what is starred or named, by variant; what this version cannot read is left out."""
    found = get_engine().store.stars.list(summary.digest, summary.held_out_digest)
    read = {key: read_variants(key, summary.n_layers)[0] for key in found}
    return {tried[0]: found[key] for key, tried in read.items() if tried}


def star(summary: ModelSummary, tried: Tried, starred: bool = True) -> None:
    """Star a variant, or take its star away; where a choice of variants is compared it joins or leaves them."""
    get_engine().store.stars.star(summary.digest, summary.held_out_digest, tried.key, starred)
    if get_compared() is not None:
        compare(summary, tried, starred)


def name(summary: ModelSummary, tried: Tried, words: str) -> None:
    """Name a variant."""
    get_engine().store.stars.name(summary.digest, summary.held_out_digest, tried.key, words)


def list_compared(summary: ModelSummary) -> list[Tried]:
    """List what is compared: what a link or ticks chose, or all that is starred."""
    if (chosen := get_compared()) is None:
        return [tried for tried, kept in list_stars(summary).items() if kept.starred]
    found, notices = read_variants(chosen, summary.n_layers)
    if notices:
        compare_variants(write_variants(found))
        notify([*session.read(Messages).notices, *notices])
        rerun_panels("header")
    return found


def compare(summary: ModelSummary, tried: Tried, wanted: bool = True) -> None:
    """Have a variant compared, or not any more."""
    chosen = [each for each in list_compared(summary) if each != tried]
    compare_variants(write_variants([*chosen, tried] if wanted else chosen))


def describe_titles(tried: Sequence[Tried], stars: dict[Tried, Star]) -> list[str]:
    """Return what variants are called: by their names, where they have one."""
    return [stars[each].name if each in stars and stars[each].name else each.title for each in tried]


def keep_pins(summary: ModelSummary) -> None:
    """Star what earlier versions kept in this browser of this model and text; the rest waits until it is loaded."""
    pins, view = get_pins(), get_view()
    ours = [pin for pin in pins or [] if _find_source(read_view(pin.link)[0]) == _find_source(view)]
    for pin in ours:
        if tried := Tried.of(read_view(pin.link)[0]):
            star(summary, tried)
    if ours:
        set_pins([pin for pin in pins or [] if pin not in ours])
    draw_keeper()


def _find_source(view: View) -> View:
    return replace(view.source.pruned, dtype="auto", device="auto", quantize="none")
