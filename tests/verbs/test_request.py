"""Requests: what is one, what it is equal to, and that its answer is what the command line prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from explorer.checkpoints.spec import ModelSpec
from explorer.cli import main
from explorer.errors import ExplorerError
from explorer.execution.engine import Engine
from explorer.verbs.catalogue import VERBS
from explorer.verbs.request import Request, answer, get_options
from explorer.verbs.requests import Requests
from tests.support.gates import Gate, wait
from tests.support.requests import write_request
from tests.support.tiny_models import WINDOW, Tiny


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "The request is no JSON: "),
        ("[" * 100_000, "The request is no JSON: "),
        ("[]", "The request is no JSON object: []"),
        ("{}", "The request is not valid: kind is missing"),
        ('{"kind": "scor"}', "No such kind of request: 'scor'. Ask for info, measure"),
        ('{"kind": "export"}', "No such kind of request: 'export'. Ask for info, measure"),
        ('{"kind": "score", "self": 1}', "The request is not valid: self is 1: extra inputs"),
        ('{"kind": "score", "model": {"model": "x", "y": 1}}', "The request is not valid: model.y is 1"),
        ('{"kind": "score", "text": {"tokens": "3"}}', "The request is not valid: text.tokens is '3'"),
        ('{"kind": "score", "text": {"tokens": 3}}', "Not one window fits: 3 tokens"),
        ('{"kind": "score", "options": {"masks": ["1"]}}', "An option is not valid: masks is ['1']: extra inputs"),
        ('{"kind": "score", "options": {"mask": "1"}}', "An option is not valid: mask is '1'"),
        ('{"kind": "score", "options": {"plan": "p"}}', "An option is not valid: plan is 'p': extra inputs"),
        ('{"kind": "generate"}', "An option is not valid: prompt is missing"),
        ('{"kind": "generate", "options": {"prompt": "a", "max_new_tokens": 0}}', "max_new_tokens is 0: input should"),
        ('{"kind": "generate", "options": {"prompt": "a", "temperature": NaN}}', "temperature is nan: input should"),
    ],
)
def test_what_is_no_request_is_one_line(text: str, line: str) -> None:
    with pytest.raises(ExplorerError) as error:
        Request.read(text)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_equal_requests_have_equal_keys() -> None:
    asked = Request(kind="score", options={"mask": ["1", "a2"]})
    assert Request.read(asked.model_dump_json()) == asked
    same = Request(kind="score", options={"split": "held-out", "mask": ["1", "a2"]}, text={"window": 256})
    assert (same.key, hash(same)) == (asked.key, hash(asked))
    others = [
        Request(kind="score", options={"mask": ["a2", "1"]}),
        Request(kind="score", options={"mask": ["1", "a2"]}, text={"name": "c4"}),
        Request(kind="score", options={"mask": ["1", "a2"]}, model=ModelSpec("another")),
        Request(kind="score", options={"mask": ["1", "a2"]}, calibration={"names": ["c4"]}),
    ]
    assert len({each.key for each in [asked, *others]}) == 5


def test_a_title_is_what_one_would_type_without_the_prompt() -> None:
    assert Request(kind="score", options={"mask": ["1", "a2"]}).title == "score --mask 1 --mask a2"
    asked = Request(kind="generate", options={"prompt": "a secret", "max_new_tokens": 7})
    assert asked.title == "generate --max-new-tokens 7"


def test_texts_are_all_that_are_named() -> None:
    calibration = {"names": ["wikitext2@2", "c4"]}
    asked = Request(kind="measure", calibration=calibration, options={"texts": ["a.txt", "b.txt"]})
    assert asked.texts == ["python-docs", "wikitext2", "c4", "a.txt", "b.txt"]


@pytest.mark.parametrize("kind", VERBS)
def test_no_option_names_a_file(kind: str) -> None:
    options = json.dumps(get_options(kind).model_json_schema())
    assert '"format": "path"' not in options
    assert not {"plan", "step", "include", "out", "log"} & get_options(kind).model_fields.keys()


@pytest.fixture
def requests(tmp_path: Path) -> Iterator[Requests]:
    engine = Engine(tmp_path / "served", lambda owner: False)
    yield Requests(engine)
    engine.worker.close()


def _without_times(found: Any) -> Any:
    """Return an answer without what a clock said."""
    if isinstance(found, dict):
        return {
            name: _without_times(value)
            for name, value in found.items()
            if name not in ("seconds", "tokens_per_second", "tokens_per_second_ci95")
        }
    return [_without_times(each) for each in found] if isinstance(found, list) else found


ASKED: dict[str, tuple[list[str], dict[str, Any]]] = {
    "info": (["--mask", "a1"], {"mask": "a1"}),
    "measure": (["--measures", "loss"], {"measures": "loss"}),
    "interactions": ([], {}),
    "plan": (["--method", "greedy", "--steps", "2"], {"method": "greedy", "steps": 2}),
    "compare": (["--plans", "deepest", "--fractions", "50"], {"plans": ["deepest"], "fractions": "50"}),
    "score": (["--mask", "1", "--modify", "mean"], {"mask": ["1"], "modify": ["mean"]}),
    "evaluate": (["--tasks", "probe:copying", "--limit", "4"], {"tasks": "probe:copying", "limit": 4}),
    "modify": (["--mask", "1"], {"mask": "1"}),
    "generate": (["--prompt", "Once", "--max-new-tokens", "4"], {"prompt": "Once", "max_new_tokens": 4}),
}


@pytest.mark.parametrize("kind", ASKED)
def test_the_answer_is_what_the_command_line_prints(
    tiny: Tiny, requests: Requests, kind: str, tmp_path: Path,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words, options = ASKED[kind]
    asked = write_request(tiny, kind, options)
    how = [f"--{name}={value}" for name, value in asdict(asked.model).items() if isinstance(value, str)]
    how += [f"--tokens={asked.text.tokens}", f"--window={WINDOW}", f"--cache={tmp_path / 'cache'}", "--json"]
    monkeypatch.setattr(sys, "argv", ["explorer", kind, *how, *words])
    capfd.readouterr()
    with pytest.raises(SystemExit):
        main()
    printed = capfd.readouterr().out
    job = wait(requests.ask(asked))
    assert job.error is None
    assert _without_times(json.loads(job.result)) == _without_times(json.loads(printed))
    if kind in ("info", "measure", "score"):  # no clock is asked
        assert job.result + "\n" == printed
        assert answer(asked, tmp_path / "another") == json.loads(printed)


def test_equal_requests_share_a_job_until_a_file_changes(tiny: Tiny, requests: Requests, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("words of a text, one after another\n" * 100)
    asked = write_request(tiny, "score", {}, str(text))
    job = wait(requests.ask(asked))
    assert requests.ask(Request.read(asked.model_dump_json())) is job
    text.write_text("other words of another text\n" * 100)
    other = wait(requests.ask(asked))
    assert other is not job
    assert other.result != job.result
    assert requests.find(asked.key) is other
    assert requests.list() == [other]


def test_what_failed_is_one_line_and_is_asked_again(tiny: Tiny, requests: Requests) -> None:
    unknown = write_request(tiny, "interactions", {"unit": "head"})
    job = wait(requests.ask(unknown))
    assert str(job.error).startswith("An option is not valid: Invalid value for --unit: 'head' is not layer or site")
    assert requests.ask(unknown) is not job
    job = wait(requests.ask(write_request(tiny, "score", {"mask": ["9"]})))
    assert "layers 0 to 3" in str(job.error)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("score", {"modify": ["{file}"]}), ("compare", {"plans": ["{file}"]})],
)
def test_no_file_is_read_for_an_option(
    tiny: Tiny, requests: Requests, tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    file = tmp_path / "some.safetensors"
    lines = []
    for there in (False, True):
        if there:
            file.write_text("a secret")
        filled = json.loads(json.dumps(options).replace("{file}", str(file)))
        job = wait(requests.ask(write_request(tiny, kind, filled)))
        lines.append(str(job.error))
    assert lines[0] == lines[1], "whether it is there makes no difference"


def test_it_goes_on_though_nobody_is_there_and_anybody_may_stop_it(tiny: Tiny, requests: Requests) -> None:
    gate, worker = Gate(), requests.engine.worker
    worker.ask("a browser that has left", "slot", "gate", "in between", gate, patience=1e9)
    assert gate.started.wait(10)
    job = requests.ask(write_request(tiny, "score", {}))
    worker.ask("another", "slot", "key", "another", lambda job: None)
    assert job.state == "queued"
    assert worker.can_dismiss(job)
    assert not worker.is_orphan(job)
    worker.dismiss(job)
    assert job.state == "cancelled"
    gate.open.set()
    again = requests.ask(write_request(tiny, "score", {}))
    assert wait(again).state == "done"


def test_old_answers_make_room(tiny: Tiny, requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.verbs.requests._MOST_ENDED", 2)
    asked = [write_request(tiny, "score", {"mask": [f"a{layer}"]}) for layer in range(4)]
    for each in asked:
        wait(requests.ask(each))
    requests.ask(asked[-1])
    assert [requests.find(each.key) is None for each in asked] == [True, True, False, False]
