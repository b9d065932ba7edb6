"""Which questions get another answer at another step of a plan, with the log-likelihoods of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from explorer.benchmarks import Evaluation, Question
from explorer.plans import Abilities
from ui.parts import define, kept

_MOST = 300  # characters of a question that are shown, its end


def draw_flipped_items(found: Mapping[str, Abilities]) -> None:
    """Draw the questions whose answers differ between two steps."""
    st.subheader("Questions that flip", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        abilities = found[st.selectbox("Plan", list(found), **kept("flips plan"))]
        tasks = {each.task: each for each in abilities.evaluations}
        evaluation = tasks[st.selectbox("Task", list(tasks), **kept("flips task"))]
        masks = {step: str(abilities.curve.plan.at(step)) for step in abilities.steps}
        one, other = (
            st.selectbox(label, list(masks), index, format_func=masks.__getitem__, **kept(f"flips {label}"))
            for label, index in (("Between", 0), ("And", len(masks) - 1))
        )
    numbers = abilities.find(evaluation, one), abilities.find(evaluation, other)
    table = list_flipped(evaluation, *numbers)
    st.caption(f"{len(table['question'])} of {len(evaluation)} questions have another answer. " + define("flips"))
    st.dataframe(table, hide_index=True, width="stretch")
    st.caption(define("KL", "expected acceptance"))


def list_flipped(evaluation: Evaluation, one: int, other: int) -> dict[str, list[Any]]:
    """List the questions whose answers differ between the variants of two numbers."""
    columns = (
        "question", "right", "before", "log-likelihood before", "after", "log-likelihood after", "changed to",
    )  # fmt: skip
    rows = []
    for place, question in enumerate(evaluation.questions):
        answers = [evaluation.answers[number] for number in (one, other)]
        chosen = [each.chosen[place] for each in answers]
        if chosen[0] == chosen[1]:
            continue
        before, after = (
            (_name(question, each.chosen[place]), _find_likelihood(evaluation, number, place))
            for number, each in zip((one, other), answers, strict=True)
        )
        rows.append(
            (question.context[-_MOST:], _name(question, question.gold), *before, *after, _judge(question, chosen))
        )
    return {column: [row[at] for row in rows] for at, column in enumerate(columns)}


def _name(question: Question, answer: int | str) -> str:
    """Return an answer in words; where there is one choice alone, whether it is what the model would write."""
    if isinstance(answer, str) or not question.choices:
        return str(answer)
    if len(question.choices) == 1:
        return question.choices[0] if answer else "something else"
    return question.choices[answer]


def _find_likelihood(evaluation: Evaluation, number: int, place: int) -> float | None:
    """Return the log-likelihood of the answer that a variant chose."""
    answers = evaluation.answers[number]
    item, chosen = answers.likelihoods[place], answers.chosen[place]
    if not item or isinstance(chosen, str):
        return None
    return -item[chosen if len(item) > 1 else 0].nll


def _judge(question: Question, chosen: list[int | str]) -> str:
    if chosen[1] == question.gold:
        return "right"
    return "wrong" if chosen[0] == question.gold else "another"
