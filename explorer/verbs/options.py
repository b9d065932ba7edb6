"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: Marks an option that only a command has, for it names a file, or says what to take of one.
SHELL = "shell"
#: Marks an option whose values are names of texts.
TEXTS = "texts"

PlanOption = Annotated[Path | None, typer.Option("--plan", help="A plan file in place of a mask; see --step."), SHELL]
StepOption = Annotated[int | None, typer.Option("--step", help="Steps of the plan to take.", min=0), SHELL]
MaskOption = Annotated[str, typer.Option("--mask", help="Sites to turn off, such as 12-15,a20,m3-4, or none.")]
ModifyOption = Annotated[
    list[str],
    typer.Option(
        "--modify", help="What makes up for what is off: refit, linear;rank=64, a file of `modify`; again for more."
    ),
]
