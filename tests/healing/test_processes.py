"""Two processes that train together give the losses of one, answer once, and leave one training behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from explorer.errors import DeviceError
from explorer.healing import training
from explorer.healing.student import Student
from explorer.model.loading import LoadedModel
from explorer.model.placement import place
from explorer.text.windows import Corpus
from tests.support import variants
from tests.support.tiny_models import REPOSITORY, WINDOW, Tiny

ALONE = ["-m", "explorer"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "explorer"]
#: Its way for several GPUs; several processes on a CPU it leaves to MPI.
ACCELERATE = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
              "--main_process_port", "0", "--dynamo_backend", "no", "--mixed_precision", "no",
              "-m", "explorer"]  # fmt: skip


def _modify(launcher: list[str], tiny: Tiny, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["--model", str(tiny.folder("llama")), "--mask", "2", "--tokens", str(5 * WINDOW), "--window", str(WINDOW)]
    words += ["--calibration-tokens", str(20 * WINDOW), "--dtype", "float32", "--device", "cpu", "--json"]
    words += ["--log", str(folder / "steps.jsonl"), "--cache", str(folder / "cache"), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "modify", *words]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--no-cache"]])
@pytest.mark.parametrize("spec", ["lora;loss=both;teacher=top16", "distill-local"])
def test_two_processes_give_the_losses_of_one(tiny: Tiny, tmp_path: Path, spec: str, more: list[str]) -> None:
    found = []
    for name, launcher in (("one", ALONE), ("two", ACCELERATE if more else TORCHRUN)):
        folder = tmp_path / name
        folder.mkdir()
        done = _modify(launcher, tiny, folder, "--modify", f"{spec};check=3;lr=1e-2;steps=6;warmup=0", *more)
        assert done.returncode == 0, done.stderr[-2000:]
        lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        found.append((json.loads(done.stdout), lines))
    (answer, steps), (other, others) = found
    assert [each["step"] for each in others] == [each["step"] for each in steps] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert [each["tokens"] for each in others] == [each["tokens"] for each in steps]
    for name in ("loss", "validation"):
        expected = [each[name] for each in steps if each[name] is not None]
        assert [each[name] for each in others if each[name] is not None] == pytest.approx(expected, rel=1e-5)
    assert {each["rows"] for each in others} == {2}
    assert {each["rows"] for each in steps} == {4}
    assert other["scores"]["modified"]["nll"] == pytest.approx(answer["scores"]["modified"]["nll"], rel=1e-5)
    assert other["recovered"] != 0


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_out_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    done = _modify(TORCHRUN, tiny, tmp_path, "--modify", "lora;batch=3;steps=2")
    assert done.returncode != 0
    assert "cannot be shared out to processes: batch=3 for 2 of them" in done.stderr
    assert not done.stdout


def test_one_of_several_that_is_out_of_memory_ends(
    llama: LoadedModel, llama_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Student, rows: torch.Tensor) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Student, "forward", fail)
    monkeypatch.setattr(training, "count_processes", lambda: 2)
    monkeypatch.setattr(training, "PartialState", lambda cpu: SimpleNamespace(wait_for_everyone=lambda: None))
    monkeypatch.setattr(training, "broadcast_object_list", lambda given: given)
    with pytest.raises(DeviceError, match=f"one of several processes: [12] windows of {WINDOW} tokens"):
        variants.make(llama, llama_corpus, "2", "lora;steps=2")


def test_each_of_several_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert str(place("auto").device) == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert str(place("auto").device) == "cuda:3"
