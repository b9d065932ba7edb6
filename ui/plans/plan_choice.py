"""Which plans are compared: ticked methods and what they share, and plan files beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import streamlit as st

from explorer.errors import ExplorerError, PlanError
from explorer.execution import request_curve
from explorer.measures import CRITERIA
from explorer.plans import METHODS, SEEDS, UNITS, Plan, PlanSpec
from ui import session
from ui.live import get_engine
from ui.parts import UNIT_NAMES, Uploaded, define, escape_markdown, kept, upload
from ui.view import get_view, linked, one_of, some_of

_AT_FIRST = ("deepest", "similarity-block", "block-influence")
_CRITERION_HELP = define("criterion", "perplexity", "KL", "logit L2")
_BUDGET_HELP = "Such as parameters=20%, layers=8 or bytes=6GiB. " + define("budget")


@dataclass(frozen=True, kw_only=True)
class MethodsAtFirst:
    """The methods that a session begins with, by the unit that they remove."""

    methods: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlanFiles:
    """The plan files that were read.

    Args:
        plans: their plans, by the file's name.
        turn: of the field that takes the next ones.
        refused: what was wrong with the last ones.
    """

    plans: Mapping[str, Plan] = field(default_factory=dict)
    turn: int = 0
    refused: tuple[str, ...] = ()


def choose_specs() -> list[PlanSpec]:
    """Let the user tick methods and set what they share; return what is valid, and say what is not."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="large"):
        unit = st.segmented_control(
            "Remove",
            UNITS,
            format_func=UNIT_NAMES.__getitem__,
            default="layer",
            required=True,
            help=define("site"),
            **linked("remove", "plans unit", "layer", one_of(UNITS)),
        )
        offered = [name for name, method in METHODS.items() if unit in method.units]
        at_first = _choose_at_first(unit, offered)
        chosen = st.multiselect(
            "Methods", offered, at_first, format_func=lambda name: METHODS[name].label, placeholder="Tick methods",
            **linked("methods", f"methods {unit}", at_first, some_of(offered)),
        )  # fmt: skip
    with st.expander("Options"):
        left, middle, right = st.columns(3)
        steps = left.number_input("Steps at the most (0: all)", 0, 1000, 0, **kept("plans steps"))
        protect = middle.text_input("Layers that stay", "none", **kept("plans protect"), help="0-3,28 or first,last")
        budget = right.text_input("Budget", "", **kept("plans budget"), help=_BUDGET_HELP)
        iterative = left.toggle("Measure again after each removal, where the method can", **kept("plans iterative"))
        criterion = middle.selectbox(
            "Searches lower", list(CRITERIA), format_func=lambda name: CRITERIA[name].label, **kept("plans criterion"),
            help=_CRITERION_HELP,
        )  # fmt: skip
    specs = []
    for name, seed in [(n, seed) for n in chosen for seed in range(SEEDS if n == "random" else 1)]:
        try:
            specs.append(
                PlanSpec(
                    name,
                    unit,
                    iterative and METHODS[name].iterative,
                    protect.replace(" ", "") or "none",
                    criterion if METHODS[name].search else "perplexity",
                    seed,
                    steps=int(steps),
                    budget=budget.strip(),
                )
            )
        except ExplorerError as error:
            st.error(escape_markdown(str(error)))
            return []
    return specs


def _choose_at_first(unit: str, offered: Sequence[str]) -> list[str]:
    """Methods that a session begins with: a few, and those that are being planned, as by a page that was reloaded."""
    methods = session.read(MethodsAtFirst).methods
    if unit not in methods:
        view, runs = get_view(), get_engine().runs
        found = [name for name in offered if name in _AT_FIRST or runs(request_curve(view, PlanSpec(name, unit)))]
        methods = session.change(MethodsAtFirst, methods={**methods, unit: tuple(found)}).methods
    return list(methods[unit])


def read_plans(n_layers: int) -> list[Plan]:
    """Let the user add plan files; return those that fit, and say what is wrong with the others.

    What was read stays with the session, whatever page is shown meanwhile, until it is taken out.
    """
    turn = session.read(PlanFiles).turn
    if files := upload("Plan files beside them", "json", f"plan files {turn}", megabytes=8):
        refused = tuple(said for file in files if (said := _take(file, n_layers)))
        session.change(
            PlanFiles, refused=refused, turn=turn + 1
        )  # an empty field in the place of the one that was read
        st.rerun()
    taken = session.read(PlanFiles)
    for said in taken.refused:
        st.error(escape_markdown(said))
    fitting = {name: plan for name, plan in taken.plans.items() if plan.n_layers == n_layers}
    for name in fitting:
        st.button(
            escape_markdown(name), key=f"take out {name}", icon=":material/close:", type="tertiary",
            help="Take this plan out", on_click=_take_out, args=(name,),
        )  # fmt: skip
    return list(fitting.values())


def _take_out(name: str) -> None:
    plans = session.read(PlanFiles).plans
    session.change(PlanFiles, plans={other: plan for other, plan in plans.items() if other != name})


def _take(file: Uploaded, n_layers: int) -> str:
    """Read a plan file; return what is wrong with it, if anything."""
    try:
        plan = Plan.read(json.loads(file.getvalue()))
        if plan.n_layers != n_layers:
            raise PlanError("The plan is for another model", f"{plan.n_layers} layers", f"This one has {n_layers}")
    except ExplorerError as error:
        return f"{file.name}: {error}"
    except (ValueError, RecursionError):
        return f"{file.name} is not a file of JSON."
    session.change(PlanFiles, plans={**session.read(PlanFiles).plans, file.name: plan})
    return ""
