"""GGUF files -> nats of windows, seconds of decoding by llama.cpp, where llama-cpp-python is installed.

It runs in a process of its own: a build that uses what the processor lacks ends its process. Run as a script, the file
needs neither the rest of this program nor torch.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def is_installed(python: str = sys.executable) -> bool:
    """Tell whether this program's own Python has llama-cpp-python; another is taken at its word."""
    return python != sys.executable or importlib.util.find_spec("llama_cpp") is not None


def measure_perplexity(path: Path, windows: list[list[int]], python: str = sys.executable) -> float | None:
    """Return the perplexity of windows of ids of equal length; None where llama.cpp is missing or crashes.

    Args:
        python: the interpreter that has llama-cpp-python.
    """
    nll = _run([path], {"windows": windows}, python)
    return None if nll is None else math.exp(math.fsum(nll) / sum(len(window) - 1 for window in windows))


def measure_seconds(
    paths: list[Path], contexts: list[int], tokens: int, runs: int, threads: int, python: str = sys.executable
) -> list[list[list[list[float]]]] | None:
    """Time reading a context, and each of some tokens after it, one text at a time, file by file in turns.

    Args:
        paths: the files.
        contexts: numbers of tokens that are read.
        tokens: that are decoded after them.
        runs: of each.
        threads: that compute; llama-cpp-python itself would take half of the processors.
        python: the interpreter that has llama-cpp-python.

    Returns:
        For each context, run and file the seconds of the context and of a token; None where llama.cpp is missing or
        crashes.
    """
    found: list[list[list[list[float]]]] | None
    found = _run(paths, {"contexts": contexts, "tokens": tokens, "runs": runs, "threads": threads}, python)
    return found


def _run(paths: list[Path], work: dict[str, Any], python: str) -> Any:
    if not is_installed(python):
        return None
    command = [python, "-P", __file__, *map(str, paths)]
    done = subprocess.run(command, input=json.dumps(work), capture_output=True, text=True)
    if done.returncode != 0 or not done.stdout.strip():
        return None
    return json.loads(done.stdout.splitlines()[-1])


def _find_nll(path: str, windows: list[list[int]]) -> list[float]:
    import numpy as np
    from llama_cpp import Llama

    model = Llama(path, n_ctx=len(windows[0]), n_batch=len(windows[0]), logits_all=True, verbose=False)
    nll = []
    for window in windows:
        model.reset()
        model.eval(window)
        logits = np.asarray(model.scores[: len(window) - 1], dtype=np.float64)
        largest = logits.max(axis=1)
        total = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        nll.append(float((total - logits[np.arange(len(logits)), window[1:]]).sum()))
    return nll


def _find_seconds(paths: list[str], contexts: list[int], tokens: int, runs: int, threads: int) -> list[Any]:
    from llama_cpp import Llama

    longest = max(contexts)
    size = {"n_ctx": longest + tokens, "n_batch": longest, "n_threads": threads, "n_threads_batch": threads}
    models = [Llama(path, **size, verbose=False) for path in paths]
    return [[[_time(model, context, tokens) for model in models] for _ in range(runs)] for context in contexts]


def _time(model: Any, context: int, tokens: int) -> list[float]:
    ids = [number % model.n_vocab() for number in range(1, context + 1)]
    model.reset()
    start = time.perf_counter()
    model.eval(ids)
    read = time.perf_counter()
    for number in range(tokens):
        model.eval([ids[number % context]])
    return [read - start, (time.perf_counter() - read) / tokens]


def _main() -> None:
    work = json.load(sys.stdin)
    if "windows" in work:
        print(json.dumps(_find_nll(sys.argv[1], work["windows"])))
    else:
        print(json.dumps(_find_seconds(sys.argv[1:], **work)))


if __name__ == "__main__":
    _main()
