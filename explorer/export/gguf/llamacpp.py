"""A GGUF file and windows of token ids -> nats by llama.cpp, where llama-cpp-python is installed.

It runs in a process of its own: a build that uses what the processor lacks ends its process. Run as a script, the file
needs neither the rest of this program nor torch.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path


def measure_perplexity(path: Path, windows: list[list[int]], python: str = sys.executable) -> float | None:
    """Return the perplexity of windows of ids of equal length; None where llama.cpp is missing or crashes.

    Args:
        python: the interpreter that has llama-cpp-python.
    """
    if python == sys.executable and importlib.util.find_spec("llama_cpp") is None:
        return None
    command = [python, "-P", __file__, str(path)]
    done = subprocess.run(command, input=json.dumps(windows), capture_output=True, text=True)
    if done.returncode != 0 or not done.stdout.strip():
        return None
    nll = json.loads(done.stdout.splitlines()[-1])
    return math.exp(math.fsum(nll) / sum(len(window) - 1 for window in windows))


def _main() -> None:
    import numpy as np
    from llama_cpp import Llama

    windows = json.load(sys.stdin)
    model = Llama(sys.argv[1], n_ctx=len(windows[0]), n_batch=len(windows[0]), logits_all=True, verbose=False)
    nll = []
    for window in windows:
        model.reset()
        model.eval(window)
        logits = np.asarray(model.scores[: len(window) - 1], dtype=np.float64)
        largest = logits.max(axis=1)
        total = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
        nll.append(float((total - logits[np.arange(len(logits)), window[1:]]).sum()))
    print(json.dumps(nll))


if __name__ == "__main__":
    _main()
