"""Turns of a conversation -> text, by the chat template that a model brings.

A template is a program: it may raise, never end, or ask for all memory there is, deep inside one call into C that no
thread can stop. So it runs in a process of its own, with a limit of time and memory.
"""

from __future__ import annotations

import json
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from explorer.errors import TextError, first_line
from explorer.guarding import guarded

_SECONDS = 5  # of processor time for one conversation
_PATIENCE = 60  # seconds that are waited for an answer; the machine may be busy
_BYTES = 1 << 30  # of memory that a template may take beyond what Python and its libraries do
_LONGEST = 1 << 24  # characters of a text

_REMEDY = "Leave the chat template off, or correct it"

#: Somebody's words: `{"role": "user", "content": "..."}`.
Turn = Mapping[str, Any]


class ChatTemplate:
    """A tokenizer's chat template. Use it in a `with`: its process, started when first needed, ends with the block."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._process: subprocess.Popen[bytes] | None = None

    @cached_property
    def _template(self) -> str:
        with guarded("The model has no chat template to use", "Leave the chat template off", TextError):
            return self._tokenizer.get_chat_template()

    def __enter__(self) -> ChatTemplate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, layer_inputs: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> int:
        """End the process, if there is one; return its status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not written yet
                pipe.close()  # type: ignore[union-attr]
        return process.wait()

    def write(self, turns: Sequence[Turn], goes_on: bool = False) -> str:
        """Return the text of some turns.

        Args:
            goes_on: end with what stands before the model's own turn.

        Raises:
            TextError: there is no template, or it fails, takes too long, or too much memory.
        """
        names = {name: value for name, value in self._tokenizer.special_tokens_map.items() if value is not None}
        request = {"template": self._template, "names": names, "turns": list(turns), "goes_on": goes_on}
        request["seconds"] = _SECONDS
        return self._ask(json.dumps(request, default=str))

    def _ask(self, request: str) -> str:
        process = self._process = self._process or _start()
        assert process.stdin is not None
        assert process.stdout is not None
        answer = b""
        try:
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
            if select.select([process.stdout], [], [], _PATIENCE)[0]:
                answer = process.stdout.readline()
        except BrokenPipeError:
            pass
        if not answer.endswith(b"\n"):
            found = f"it takes more than {_SECONDS} s" if self._end() in _LATE else "its process ended"
            raise TextError("The chat template fails", found, _REMEDY)
        told = json.loads(answer)
        if "text" not in told:
            raise TextError("The chat template fails", told["error"], _REMEDY)
        return told["text"]


_LATE = (-signal.SIGXCPU, -signal.SIGKILL)


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parent.parent.parent)
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path.insert(0, {root!r}); from explorer.text.chat_template import serve; serve()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def serve() -> None:
    """Answer requests, one a line, until there are no more: what the process of a template does."""
    from transformers.utils.chat_template_utils import render_jinja_template

    with open("/proc/self/statm") as sizes:
        taken = int(sizes.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + _BYTES, taken + _BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        request = json.loads(line)
        used = resource.getrusage(resource.RUSAGE_SELF)
        ends = int(used.ru_utime + used.ru_stime) + 1 + request["seconds"]
        resource.setrlimit(resource.RLIMIT_CPU, (ends, resource.RLIM_INFINITY))
        try:
            made: Any = render_jinja_template(
                conversations=[request["turns"]],
                chat_template=request["template"],
                add_generation_prompt=request["goes_on"],
                **request["names"],
            )
            text = made[0][0]
            if len(text) > _LONGEST:
                raise ValueError(f"its text has {len(text)} characters, and may have {_LONGEST}")
            answer = {"text": text}
        except MemoryError:
            answer = {"error": f"it takes more than {_BYTES >> 30} GiB of memory"}
        except Exception as error:
            answer = {"error": first_line(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
