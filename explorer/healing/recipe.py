"""The options that trainings share, the published presets, and what a modifier's spec makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from explorer.errors import ModifyError
from explorer.modifiers import Option, Setting

#: Checkpoints of a training where `check` is auto.
CHECKPOINTS = 10

#: What each preset says, where the spec does not: Gromov et al., arXiv:2403.17887; Kim et al., arXiv:2402.02834.
PRESETS: dict[str, dict[str, str]] = {
    "none": {},
    "gromov": {"targets": "mlp", "rank": "64", "alpha": "rank", "lr": "3e-4", "warmup": "100", "schedule": "cosine"},
    "shortened-llama": {"targets": "all", "rank": "8", "alpha": "16", "lr": "1e-4", "warmup": "0"},
}


def list_options(steps: str, lr: str) -> tuple[Option, ...]:
    """List what every training can be told, with the defaults of one."""
    return (
        Option("steps", "steps of the optimizer", steps, least=0, most=10_000_000, whole=True),
        Option("until", "the checkpoint to stop at, of a training of all steps; 0: the last", "0", whole=True),
        Option("batch", "windows in a step", "4", least=1, most=65536, whole=True),
        Option("lr", "learning rate at its highest", lr),
        Option("warmup", "steps over which it rises", "10", whole=True),
        Option("schedule", "how it falls afterwards", "cosine", ("cosine", "linear", "constant")),
        Option("check", "steps between checkpoints; a tenth of them if auto", "auto", word="auto", least=1, whole=True),
        Option("patience", "checkpoints without a better one before it stops; 0: never", "0", whole=True),
        Option("seed", "of the order of the windows, and of the first weights", "0", most=2**31, whole=True),
    )


#: What is learnt, and from which windows.
LEARNT = (
    Option("loss", "next tokens, the unpruned model's predictions, or the sum of both", "lm", ("lm", "kl", "both")),
    Option(
        "teacher", "its predictions asked at each step, or its likeliest tokens kept, such as top64", "all",
        form=r"all|top[1-9]\d{0,5}", example="top64",
    ),
    Option(
        "text", "the calibration windows, or what the unpruned model writes itself", "calibration",
        ("calibration", "self"),
    ),
    Option("share", "of the windows, how many it writes where text=self", "1", most=1),
    Option("prompt", "ids of each window that it goes on from; 0: it begins a text", "0", whole=True),
    Option("decoding", "how it writes: sampled at temperature 1, or greedy", "sampled", ("sampled", "greedy")),
    Option("window", "ids in a window; as in calibration if auto", "auto", word="auto", least=2, whole=True),
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How one training goes.

    Args:
        steps: of the optimizer, at each of which `batch` windows are seen.
        until: the step to stop at.
        lr, warmup, schedule: the learning rate at its highest, the steps to get there, and how it falls.
        check: steps between checkpoints.
        patience: checkpoints without a better one before it stops; 0 for all.
        seed: of the order of the windows.
    """

    steps: int
    until: int
    batch: int
    lr: float
    warmup: int
    schedule: str
    check: int
    patience: int
    seed: int


def read_options(setting: Setting) -> dict[str, str]:
    """Return the value of every option: the spec's, else the preset's, else the default."""
    preset = PRESETS[setting.options.get("preset", "none")]
    return setting.options | preset | dict(setting.origin.modifier.options)


def read_whole(options: Mapping[str, str], name: str) -> int:
    """Return the value of an option that is a whole number, however it is written."""
    return int(float(options[name]))


def read_recipe(options: Mapping[str, str]) -> Recipe:
    """Return how a training goes. Raises ModifyError: it is to stop where there is no checkpoint."""
    steps, until = read_whole(options, "steps"), read_whole(options, "until")
    check = max(1, steps // CHECKPOINTS) if options["check"] == "auto" else read_whole(options, "check")
    if until > steps or (until % check and until < steps):
        raise ModifyError("There is no checkpoint to stop at", f"step {until} of {steps}", f"Use a multiple of {check}")
    return Recipe(
        steps,
        until or steps,
        read_whole(options, "batch"),
        float(options["lr"]),
        read_whole(options, "warmup"),
        options["schedule"],
        check,
        read_whole(options, "patience"),
        read_whole(options, "seed"),
    )
