"""Run `python -m tests.performance`: print a Markdown table, draw docs/cost.png. Run it on a quiet machine."""

from __future__ import annotations

import torch

from tests.performance import (
    browser,
    curves,
    engine,
    evaluation,
    export,
    healing,
    plans,
    recovery,
    sparsity,
    streaming,
    users,
    workers,
)


def main() -> None:
    """Print the machine and the table."""
    able = torch.cpu.get_capabilities()
    print(f"{able.get('cpu_name')}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| what | measured | goal |\n|---|---|---|")
    for part in (engine, plans, recovery, healing, sparsity, evaluation, export, streaming, workers, users, browser):
        for row in part.run():
            print("| " + " | ".join(row) + " |", flush=True)
    print()
    curves.draw()


main()
